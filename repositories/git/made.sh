# Runs INSIDE the sandbox, after inside.sh: tells what a setup has made of a tree of the base commit.
#
# NAME says what is printed: "made", for the other scripts and the platform, what git does not
# ignore as "BASE\0" and a raw difference, or nothing; "packed", an archive of everything, ignored
# or not; "gone", the tracked files that are not there any more, each with a NUL.

# Hashes without keeping: what the setup made may be larger than /tmp. Only links are kept, for git
# compares their content through the object.
hash_made() {
    run diff-files -z --name-only --diff-filter=D | run update-index --force-remove -z --stdin
    { run ls-files -o -z --exclude-standard | grep -z -v '/$'; run diff-files -z --name-only; } |
        run update-index --add --replace --info-only -z --stdin || fail "git update-index"
    run diff-index --cached -z --raw --no-renames "$commit" | entries | grep -z '^120000 ' |
        cut -z -f2- >"$private/links"
    run update-index --force-remove -z --stdin <"$private/links" &&
        run update-index --add --replace -z --stdin <"$private/links" || fail "git update-index"
}

# Analysers, and who asks git for the status, are not shown what the setup made.
hide_made() {
    local rules=$top/.git/info/exclude
    [ -d "$top/.git/info" ] && [ ! -L "$rules" ] || return 0
    LC_ALL=C sed -z '/\n/d;s/[][\\*?! ]/\\&/g;s/^/\//' "$private/others" | tr '\0' '\n' >>"$rules"
}

# Afresh: what is there now may be the setup's own.
begin
prepare "$@"
start_index
run update-index -q --refresh >/dev/null
case $0 in
made)
    run ls-files -o -z --exclude-standard --directory --no-empty-directory >"$private/others"
    hash_made
    run diff-index --cached -z --raw --no-renames --no-abbrev "$commit" >"$private/difference"
    [ -s "$private/difference" ] || exit 0
    hide_made
    printf '%s\0' "$commit"
    cat "$private/difference" ;;
packed)
    { run ls-files -o -z; run diff-files -z --name-only --diff-filter=d
        run ls-files -s -z | grep -z '^160000 ' | cut -z -f2-; } >"$private/all"
    [ ! -s "$private/all" ] || tar --null --verbatim-files-from -T "$private/all" --sparse \
        --ignore-failed-read -cf - ;;
gone) run diff-files -z --name-only --diff-filter=D ;;
esac
