# Runs INSIDE the sandbox: writes the work tree as a commit and prints it as a thin pack.
#
#   bash -c "$THIS" checkpoint PREVIOUS [REPOSITORY...]      (in the work tree)
#
# PREVIOUS is the checkpoint (or base commit) before; each REPOSITORY is a bare one (or its folder
# of objects) that may be read. Printed: "COMMIT TREE\n" and the raw pack, or "same TREE\n" when nothing changed.
# Uses a repository, an index and rules of its own, so that nothing that the agent did to .git
# matters and nothing that the agent sees there changes.
set -u
previous=$1
shift
top=$PWD
private=${ASYNCCODER_CHECKPOINT_DIR:-/tmp/.asynccoder-checkpoint}
case $previous in *[!0-9a-f]*|'') echo "no such commit" >&2; exit 64;; esac

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

fail() { echo "checkpoint: $1" >&2; exit 65; }

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

# The agent's index saves hashing every file, for it knows their sizes and times; what it says
# of their content is not believed, and one with "do not look" marks is not used.
start_index() {
    local given=$top/.git/index
    if [ -f "$given" ] && [ ! -L "$given" ] && cp "$given" "$private/git/index" 2>/dev/null &&
        ! run ls-files -v 2>/dev/null | grep -q '^[a-zS]' &&
        run read-tree -m "$previous" 2>/dev/null; then
        return
    fi
    rm -f "$private/git/index" "$private/git/index.lock"
    run read-tree "$previous" || fail "the commit before is not here"
}

prepare() {
    [ -f "$private/git/HEAD" ] && [ -f "$private/git/exclude" ] || begin
    mkdir -p "$private/git/objects/info"
    borrow "$@" >"$private/git/objects/info/alternates"
    rm -f "$private/git/index.lock"
    run cat-file -e "$previous^{commit}" 2>/dev/null || fail "the commit before is not here"
    { [ -f "$private/git/index" ] && run ls-files >/dev/null 2>&1; } || start_index
}

links() { grep -z "^160000 " | sort -z; }

# A repository inside the work tree is never added: what was a submodule stays as it was.
drop_nested() {
    run ls-files -s -z | sed -z 's/ 0\t/\t/' | links >"$private/now"
    run ls-tree -r -z "$previous" | sed -z 's/ commit / /' | links >"$private/before"
    comm -z -23 "$private/now" "$private/before" | cut -z -f2- >"$private/nested"
    [ -s "$private/nested" ] || return 0
    tr '\n\0' ' \n' <"$private/nested" | sed 's/^/nested repository left out: /' >&2
    run reset --quiet --pathspec-from-file="$private/nested" --pathspec-file-nul "$previous" ||
        fail "nested repository"
}

# What cannot be read is left out and said; what could not be written would be lost silently.
add_all() {
    local said status
    said=$(run add -A --ignore-errors . 2>&1 >/dev/null)
    status=$?
    [ -z "$said" ] || printf '%s\n' "$said" >&2
    case $said in
    *'No space left'* | *'unable to write'* | *'unable to create'* | *'insufficient permission'*)
        fail "no room in /tmp for the changed files" ;;
    esac
    [ $status -le 1 ] || fail "git add ended with $status"
}

write_commit() {
    GIT_AUTHOR_NAME='Async Coder' GIT_AUTHOR_EMAIL='checkpoint@asynccoder.invalid' \
        GIT_AUTHOR_DATE='@1 +0000' GIT_COMMITTER_NAME='Async Coder' \
        GIT_COMMITTER_EMAIL='checkpoint@asynccoder.invalid' GIT_COMMITTER_DATE='@1 +0000' \
        run commit-tree "$1" -p "$previous" -m checkpoint
}

prepare "$@"
add_all
drop_nested
tree=$(run write-tree) || fail "git write-tree"
if [ "$tree" = "$(run rev-parse --verify "$previous^{tree}")" ]; then
    printf 'same %s\n' "$tree"
    exit 0
fi
commit=$(write_commit "$tree") || fail "git commit-tree"
printf '%s %s\n' "$commit" "$tree"
printf '%s\n^%s\n' "$commit" "$previous" |
    run pack-objects --revs --thin --stdout --delta-base-offset --threads=1 -q || fail "git pack-objects"
