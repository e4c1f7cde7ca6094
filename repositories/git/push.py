"""What leaves a task's store: the final commit, the pushed branch, the bundle."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from repositories.git.command import Bounds, Call, Finished, git, run
from repositories.git.errors import CloneFailed, GitFailed, PatchRefused, PushRefused
from repositories.git.mirror import (
    CONTACT_MEMORY,
    CONTACT_SECONDS,
    TRANSFER_MEMORY,
    checked,
    is_valid_branch,
)
from repositories.git.remotes import Remote, refusal
from repositories.git.store import COMMIT, REFS, PackLimits, check_changes, keep_ref, tree_of

OWN_BRANCHES = "asynccoder/"
PUSH_SECONDS = 300
PATCH_BYTES = 10 * 1024**2
PATCH_BOUNDS = Bounds(seconds=60, cpu=30, file=256 * 1024**2, memory=2 * 1024**3)
FINAL = "final"


def final_commit(
    store: Path, base: str, tree_from: str, *, message: str, author_name: str, author_email: str
) -> str:
    """Return the one commit that hands the work over: the tree of ``tree_from`` upon ``base``.

    The author is the user, the committer Async Coder. Asked again for the same (after a crash),
    it returns the same commit.
    """
    tree, text = tree_of(store, tree_from), _text(message)
    earlier = _earlier(store, base, tree, text)
    if earlier:
        return earlier
    env = {
        "GIT_AUTHOR_NAME": _plain(author_name) or "Async Coder user",
        "GIT_AUTHOR_EMAIL": _plain(author_email) or "user@asynccoder.invalid",
        "GIT_COMMITTER_NAME": "Async Coder",
        "GIT_COMMITTER_EMAIL": "commits@asynccoder.invalid",
    }
    made = git("commit-tree", tree, "-p", checked(base), "-F", "-",
               git_dir=store, stdin=text.encode(), env=env)  # fmt: skip
    commit = made.decode().strip()
    keep_ref(store, FINAL, commit)
    return commit


def _earlier(store: Path, base: str, tree: str, text: str) -> str:
    """Return the commit of an earlier try when it says the same, else ""."""
    asked = ["log", "-1", "--format=%H%x00%P%x00%T%x00%B", f"{REFS}{FINAL}", "--"]
    finished = run(Call(args=asked, git_dir=store))
    if finished.exit_code:
        return ""
    commit, *facts, body = finished.output.decode("utf-8", "replace").split("\0")
    return commit if facts == [base, tree] and body.strip() == text.strip() else ""


def _plain(name: str) -> str:
    """Return a name without what would break a commit's header line."""
    return "".join(c for c in name if c.isprintable() and c not in "<>").strip(" .,;:'\"\\")


def _text(message: str) -> str:
    text = "".join(c for c in message if c == "\n" or c == "\t" or c.isprintable()).strip()
    return f"{text or 'Async Coder: work on a task'}\n"


def apply_patch_tree(store: Path, base: str, patch: str) -> str:
    """Return a commit upon ``base`` that holds a given patch, applied without any work tree.

    Raises PatchRefused, saying which file does not fit.
    """
    content = patch.encode()
    if len(content) > PATCH_BYTES:
        raise PatchRefused("The patch is too large.")
    with tempfile.TemporaryDirectory(prefix="patch-", dir=store) as folder:
        env = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        git("read-tree", checked(base), git_dir=store, env=env)
        applied = run(
            Call(args=["apply", "--cached", "--whitespace=nowarn", "-"], git_dir=store, env=env,
                 stdin=content if content.endswith(b"\n") else content + b"\n",
                 bounds=PATCH_BOUNDS)
        )  # fmt: skip
        if applied.exit_code or applied.stopped:
            raise PatchRefused(_why_refused(applied), detail=applied.errors[-2000:])
        tree = git("write-tree", git_dir=store, env=env).decode().strip()
    return _patch_commit(store, base, tree)


def _patch_commit(store: Path, base: str, tree: str) -> str:
    text = COMMIT.format(tree=tree, parent=base).encode()
    made = git("hash-object", "-t", "commit", "-w", "--stdin", git_dir=store, stdin=text)
    commit = made.decode().strip()
    try:
        check_changes(store, base, commit, limits=PackLimits())
    except GitFailed as error:
        raise PatchRefused(str(error), detail=error.detail) from None
    return commit


def _why_refused(applied: Finished) -> str:
    found = re.search(r"patch failed: ([^\n]{1,200})|error: ([^\n]{1,200})", applied.errors)
    reason = (found[1] or found[2]) if found else ""
    plain = "".join(c for c in reason if c.isprintable())
    return f"The patch does not apply: {plain}" if plain else "The patch does not apply."


def remote_branch(store: Path, remote: Remote, branch: str) -> str | None:
    """Return the commit that a remote's branch names, or None. Raises CloneFailed."""
    name = f"refs/heads/{branch}"
    finished = run(
        Call(
            args=["ls-remote", *remote.options("upload-pack"), "--end-of-options",
                  remote.url, name],
            git_dir=store,
            env=remote.environment(),
            bounds=Bounds(seconds=CONTACT_SECONDS, output=1024**2, memory=CONTACT_MEMORY),
        )
    )  # fmt: skip
    if finished.stopped or finished.exit_code:
        raise refusal(remote, finished)
    for line in finished.output.decode("utf-8", "replace").splitlines():
        commit, _, found = line.partition("\t")
        if found == name:
            return checked(commit)
    return None


def push_branch(
    store: Path, remote: Remote, commit: str, branch: str, *, expected: str | None
) -> None:
    """Push one commit to one branch under ``asynccoder/``.

    1. Look first: a remote that already has this commit there is a success (an earlier try).
    2. Push only over ``expected`` (None: the branch must not exist), which the remote checks.
    3. After a refusal look again: the push of a killed try may have arrived in between.
    Raises PushRefused, AuthenticationFailed, CloneFailed.
    """
    if not branch.startswith(OWN_BRANCHES) or not is_valid_branch(branch):
        raise PushRefused("Only branches under asynccoder/ are pushed.")
    present = remote_branch(store, remote, branch)
    if present == checked(commit):
        return
    if present != expected:
        raise PushRefused("Somebody else changed the branch on the remote.")
    finished = _push(store, remote, commit, branch, expected=expected)
    if (finished.stopped or finished.exit_code) and not _has_arrived(store, remote, commit, branch):
        raise _push_refusal(remote, finished)


def _has_arrived(store: Path, remote: Remote, commit: str, branch: str) -> bool:
    try:
        return remote_branch(store, remote, branch) == commit
    except CloneFailed:
        return False


def _push(
    store: Path, remote: Remote, commit: str, branch: str, *, expected: str | None
) -> Finished:
    ref = f"refs/heads/{branch}"
    return run(
        Call(
            args=["push", "--porcelain", "--no-verify", "--no-follow-tags", "--no-signed",
                  f"--force-with-lease={ref}:{expected or ''}", *remote.options("receive-pack"),
                  "--end-of-options", remote.url, f"{commit}:{ref}"],
            git_dir=store,
            env=remote.environment(),
            bounds=Bounds(seconds=PUSH_SECONDS, cpu=PUSH_SECONDS, memory=TRANSFER_MEMORY),
        )
    )  # fmt: skip


def _push_refusal(remote: Remote, finished: Finished) -> GitFailed:
    said = finished.output.decode("utf-8", "replace")
    found = re.search(r"^!\t\S+\t\[(?:remote )?rejected\] \(([^\n]{1,200})\)", said, re.MULTILINE)
    if found:
        reason = remote.cleaned(found[1])
        return PushRefused(f"The remote did not take the branch: {reason}.")
    return refusal(remote, finished)


def write_bundle(
    store: Path, base: str, head: str, path: Path, *, branch: str = "asynccoder/result"
) -> None:
    """Write the commits since ``base`` as a git bundle that names them as one branch."""
    if not is_valid_branch(branch):
        raise GitFailed("This is no name of a branch.")
    git("update-ref", f"refs/heads/{branch}", checked(head), git_dir=store)
    git("bundle", "create", "--quiet", str(path), f"^{checked(base)}", f"refs/heads/{branch}",
        git_dir=store)  # fmt: skip
