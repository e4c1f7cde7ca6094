# Runs INSIDE the sandbox: brings a fresh tree of the base commit to a checkpoint, exactly.
#
#   bash -c "$THIS" restore CHECKPOINT [REPOSITORY...]      (in the work tree)
#
# Each REPOSITORY is a bare one (or its folder of objects) that may be read. Prints "restored TREE"; any other
# ending than exit 0 means that the tree must not be used.
set -u
commit=$1
shift
top=$PWD
private=$(mktemp -d /tmp/.asynccoder-restore.XXXXXX) || exit 65
trap 'rm -rf "$private"' EXIT
case $commit in *[!0-9a-f]*|'') echo "no such commit" >&2; exit 64;; esac

export HOME=/nonexistent LC_ALL=C.UTF-8 GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null \
    GIT_ATTR_NOSYSTEM=1 GIT_NO_REPLACE_OBJECTS=1 GIT_TERMINAL_PROMPT=0
unset GIT_DIR GIT_INDEX_FILE GIT_WORK_TREE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES \
    GIT_CONFIG_COUNT GIT_CONFIG_PARAMETERS GIT_NAMESPACE GIT_COMMON_DIR GIT_CEILING_DIRECTORIES

run() {
    git --git-dir="$private/git" --work-tree="$top" \
        -c core.bare=false -c core.hooksPath=/dev/null -c core.fsmonitor=false \
        -c core.untrackedCache=false -c core.attributesFile=/dev/null -c core.fileMode=true \
        -c core.symlinks=true -c core.autocrlf=false -c core.checkStat=minimal \
        -c core.trustctime=false -c core.sparseCheckout=false -c submodule.recurse=false \
        -c gc.auto=0 "$@"
}

fail() { echo "restore: $1" >&2; exit 65; }

git init --quiet --bare --template= "$private/git" || fail "git init"
mkdir -p "$private/git/objects/info"
for folder in "$@" "$top/.git"; do
    [ ! -d "$folder/objects" ] || folder=$folder/objects
    [ ! -d "$folder" ] || printf '%s\n' "$folder"
done >"$private/git/objects/info/alternates"
run cat-file -e "$commit^{commit}" 2>/dev/null || fail "the checkpoint is not here"
[ ! -f "$top/.git/index" ] || cp "$top/.git/index" "$private/git/index" || fail "no room in /tmp"
run read-tree --reset -u "$commit" || fail "git read-tree"
run update-index -q --refresh >/dev/null
run diff-files --quiet --ignore-submodules || fail "the tree is not the checkpoint's"
printf 'restored %s\n' "$(run rev-parse --verify "$commit^{tree}")"
