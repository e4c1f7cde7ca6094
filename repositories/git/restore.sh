# Runs INSIDE the sandbox, after inside.sh: brings a fresh tree of the base commit to a checkpoint, exactly.
#
# COMMIT is the checkpoint; what the setup made stays where the agent has not changed it. Prints
# "restored TREE"; any other ending than exit 0 means that the tree must not be used.
prepare "$@"
has_index || [ ! -f "$top/.git/index" ] || cp "$top/.git/index" "$private/git/index" ||
    fail "no room in /tmp"
run read-tree --reset -u "$expected" || fail "git read-tree"
run update-index -q --refresh >/dev/null
run diff-files --quiet --ignore-submodules || fail "the tree is not the checkpoint's"
printf 'restored %s\n' "$(run rev-parse --verify "$commit^{tree}")"
