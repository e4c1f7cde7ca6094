# What the scripts that run INSIDE the sandbox share; each is this text and its own.
#
#   bash -c "$THIS$OWN" NAME COMMIT [REPOSITORY...]      (in the work tree)
#
# ASYNCCODER_TREE is the tree of COMMIT where the platform knows it.
#
# Each REPOSITORY is a bare one (or its folder of objects) that may be read. Standard input is what
# made.sh printed when the setup was done: "BASE\0" and a raw difference, or nothing without a setup.
# They use a repository, an index and rules of their own, so that nothing that the agent did to
# .git matters and nothing that the agent sees there changes.
set -u
commit=$1
shift
top=$PWD
private=${ASYNCCODER_CHECKPOINT_DIR:-/tmp/.asynccoder-checkpoint}
case $commit in *[!0-9a-f]*|'') echo "no such commit" >&2; exit 64;; esac

export HOME=/nonexistent LC_ALL=C.UTF-8 GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null \
    GIT_ATTR_NOSYSTEM=1 GIT_NO_REPLACE_OBJECTS=1 GIT_LITERAL_PATHSPECS=1 GIT_TERMINAL_PROMPT=0
unset GIT_DIR GIT_INDEX_FILE GIT_WORK_TREE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES \
    GIT_CONFIG_COUNT GIT_CONFIG_PARAMETERS GIT_NAMESPACE GIT_COMMON_DIR GIT_CEILING_DIRECTORIES

run() {
    git --git-dir="$private/git" --work-tree="$top" \
        -c core.bare=false -c core.hooksPath=/dev/null -c core.fsmonitor=false \
        -c core.untrackedCache=false -c core.attributesFile=/dev/null \
        -c core.excludesFile="$private/git/exclude" -c core.fileMode=true -c core.symlinks=true \
        -c core.autocrlf=false -c core.safecrlf=false -c core.checkStat=minimal \
        -c core.trustctime=false -c core.quotePath=false -c core.sparseCheckout=false \
        -c submodule.recurse=false -c gc.auto=0 -c advice.addEmbeddedRepo=false \
        -c index.sparse=false -c core.splitIndex=false -c core.preloadIndex=true "$@"
}

fail() { echo "$0: $1" >&2; exit 65; }

begin() {
    rm -rf "$private" && mkdir -m 700 -p "$private/new" || fail "no room in /tmp"
    git init --quiet --bare --template= "$private/new" || fail "git init"
    printf '%s\n' '__pycache__/' '*.py[co]' '.pytest_cache/' '.mypy_cache/' '.ruff_cache/' \
        '.hypothesis/' '.tox/' '.nox/' '.coverage' '.coverage.*' 'htmlcov/' '*.egg-info/' \
        'node_modules/' '.venv/' '.DS_Store' >"$private/new/exclude"
    mv "$private/new" "$private/git"
}

borrow() {
    local folder
    for folder in "$@" "$top/.git"; do
        [ ! -d "$folder/objects" ] || folder=$folder/objects
        [ ! -d "$folder" ] || printf '%s\n' "$folder"
    done
}

prepare() {
    [ -f "$private/git/HEAD" ] && [ -f "$private/git/exclude" ] || begin
    [ -d "$private/git/objects/info" ] || mkdir -p "$private/git/objects/info"
    borrow "$@" >"$private/git/objects/info/alternates"
    [ ! -e "$private/git/index.lock" ] || rm -f "$private/git/index.lock"
    # Most of the time there is nothing to read, and every program that is started costs a millisecond.
    if [ /dev/stdin -ef /dev/null ]; then
        : >"$private/made" || fail "no room in /tmp"
    else
        cat >"$private/made" || fail "no room in /tmp"
    fi
    before=${ASYNCCODER_TREE:-}
    [ -n "$before" ] || before=$(run rev-parse --verify "$commit^{tree}" 2>/dev/null) ||
        fail "the commit before is not here"
    expected=$(expected_tree) || fail "what the setup made does not fit"
}

# Turns a raw difference into what update-index --index-info takes.
entries() {
    LC_ALL=C sed -z 'N;s/^:[0-7]* \([0-7]*\) [0-9a-f]* \([0-9a-f]*\) [A-Z][0-9]*\x00/\1 \2 0\t/'
}

overlay() { entries | GIT_INDEX_FILE=$private/scratch run update-index --replace -z --index-info; }

# The tree that the work tree is expected to hold at the commit: the base, what the setup made of
# it, and on these what the agent has changed. Its new files need not be among the objects.
expected_tree() {
    local base
    [ -s "$private/made" ] || { echo "$before"; return; }
    base=$(head -z -n 1 "$private/made" | tr -d '\0')
    rm -f "$private/scratch"
    GIT_INDEX_FILE=$private/scratch run read-tree "$base" &&
        tail -z -n +2 "$private/made" | overlay &&
        run diff-tree -r -z --raw --no-renames --no-abbrev "$base" "$commit" | overlay &&
        GIT_INDEX_FILE=$private/scratch run write-tree --missing-ok
}

# The agent's index saves hashing every file, for it knows their sizes and times; what it says
# of their content is not believed, and one with "do not look" marks is not used.
start_index() {
    local given=$top/.git/index
    if [ -f "$given" ] && [ ! -L "$given" ] && cp "$given" "$private/git/index" 2>/dev/null &&
        ! run ls-files -v 2>/dev/null | grep -q '^[a-zS]' &&
        run read-tree -m "$expected" 2>/dev/null; then
        :
    else
        rm -f "$private/git/index" "$private/git/index.lock"
        run read-tree "$expected" || fail "the commit before is not here"
    fi
    # Else unchanged files of the setup would be taken for new ones and be written as objects.
    [ ! -s "$private/made" ] || run update-index -q --refresh >/dev/null
}

has_index() { [ -f "$private/git/index" ] && run ls-files >/dev/null 2>&1; }
