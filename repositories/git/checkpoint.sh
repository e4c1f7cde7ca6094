# Runs INSIDE the sandbox, after inside.sh: writes the work tree as a commit and prints it as a thin pack.
#
# COMMIT is the checkpoint (or base commit) before. Printed: "COMMIT TREE\n" and the raw pack, or
# "same TREE\n" when nothing changed. What the setup made is left out until the agent changes it:
# the new tree is the one before and, on it, what differs from what the work tree is expected to hold.
links() { grep -z "^160000 " | sort -z; }

# A repository inside the work tree is never added: what was a submodule stays as it was.
drop_nested() {
    run ls-files -s -z | grep -z "^160000 " >"$private/now" || return 0
    sed -z 's/ 0\t/\t/' "$private/now" | sort -z -o "$private/now"
    run ls-tree -r -z "$commit" | sed -z 's/ commit / /' | links >"$private/before"
    comm -z -23 "$private/now" "$private/before" | cut -z -f2- >"$private/nested"
    [ -s "$private/nested" ] || return 0
    tr '\n\0' ' \n' <"$private/nested" | sed 's/^/nested repository left out: /' >&2
    run reset --quiet --pathspec-from-file="$private/nested" --pathspec-file-nul "$commit" ||
        fail "nested repository"
}

# What cannot be read is left out and said; what could not be written would be lost silently.
add_all() {
    local said status
    said=$(run add -A --ignore-errors . 2>&1 >/dev/null)
    status=$?
    if [ $status -gt 1 ]; then
        # The agent can reach the index: one that git cannot read is made anew.
        start_index
        said=$(run add -A --ignore-errors . 2>&1 >/dev/null)
        status=$?
    fi
    [ -z "$said" ] || printf '%s\n' "$said" >&2
    case $said in
    *'No space left'* | *'unable to write'* | *'unable to create'* | *'insufficient permission'*)
        fail "no room in /tmp for the changed files" ;;
    esac
    [ $status -le 1 ] || fail "git add ended with $status"
}

new_tree() {
    [ -s "$private/made" ] || { run write-tree; return; }
    rm -f "$private/scratch"
    GIT_INDEX_FILE=$private/scratch run read-tree "$commit" &&
        run diff-index --cached -z --raw --no-renames --no-abbrev "$expected" | overlay &&
        GIT_INDEX_FILE=$private/scratch run write-tree
}

write_commit() {
    GIT_AUTHOR_NAME='Async Coder' GIT_AUTHOR_EMAIL='checkpoint@asynccoder.invalid' \
        GIT_AUTHOR_DATE='@1 +0000' GIT_COMMITTER_NAME='Async Coder' \
        GIT_COMMITTER_EMAIL='checkpoint@asynccoder.invalid' GIT_COMMITTER_DATE='@1 +0000' \
        run commit-tree "$1" -p "$commit" -m checkpoint
}

prepare "$@"
[ -f "$private/git/index" ] || start_index
add_all
drop_nested
tree=$(new_tree) || fail "git write-tree"
if [ "$tree" = "$before" ]; then
    printf 'same %s\n' "$tree"
    exit 0
fi
made=$(write_commit "$tree") || fail "git commit-tree"
printf '%s %s\n' "$made" "$tree"
printf '%s\n^%s\n' "$made" "$commit" |
    run pack-objects --revs --thin --stdout --delta-base-offset --threads=1 -q || fail "git pack-objects"
