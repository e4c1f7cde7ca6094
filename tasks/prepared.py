"""What a setup made, on its way out of the sandbox that ran it and into those that use it.

All of it is a tenant's: the host stores bytes and renames folders, and looks into nothing. Archives
are made and unpacked inside sandboxes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from asynccoder.lib import storable
from repositories import git
from tasks.errors import SetupFailed
from tasks.sandbox.base import Command, CommandResult, Sandbox, SandboxLost

MADE_BYTES = 32 * 1024**2
"""Bytes of the list of what a setup made and git does not ignore."""
QUIET = "exec 2>/dev/null\n"
PACK_HOME = '[ -z "$(ls -A "$HOME")" ] || exec tar --sparse --ignore-failed-read -C "$HOME" -cf - .'
UNPACK = """
[ ! -f "$0/gone" ] || xargs -0 -r rm -f -- <"$0/gone" || exit 1
[ ! -f "$0/tree.tar" ] || tar --recursive-unlink -xpf "$0/tree.tar" || exit 1
[ ! -f "$0/home.tar" ] || tar -C "$HOME" -xpf "$0/home.tar"
"""


@dataclass(frozen=True, slots=True)
class Tools:
    """What the scripts inside need: the base commit, where objects are, and seconds for each."""

    commit: str
    objects: Sequence[str]
    seconds: float

    def argv(self, name: str, *, before: str = "") -> list[str]:
        return ["bash", "-c", before + git.MADE_SCRIPT, name, self.commit, *self.objects]


def set_up(sandbox: Sandbox, command: Command) -> float:
    """Run the setup's command; return its seconds. Raises SetupFailed."""
    try:
        result = sandbox.run(command)
    except SandboxLost as error:
        raise SetupFailed(f"Setup was ended: {error}") from error
    if result.stopped == "timeout":
        raise SetupFailed(f"Setup took longer than {command.seconds:g} s: {command.argv[-1]}")
    if result.exit_code != 0 or result.stopped:
        said = storable.text(result.text[-1000:])
        limit = f" ({result.stopped} limit)" if result.stopped else ""
        raise SetupFailed(f"Setup failed with exit code {result.exit_code}{limit}: {said}")
    return result.seconds


def pack_home(sandbox: Sandbox, packed: Path, *, most: int, seconds: float) -> None:
    """Archive the home folder: package managers keep there what they installed."""
    _write(sandbox, ["bash", "-c", QUIET + PACK_HOME], packed / "home.tar", most, seconds)


def pack_tree(sandbox: Sandbox, packed: Path, *, most: int, tools: Tools) -> None:
    """Archive what the setup changed in the work tree, where no overlay has gathered it."""
    for name, path in (("packed", packed / "tree.tar"), ("gone", packed / "gone")):
        _write(sandbox, tools.argv(name, before=QUIET), path, most, tools.seconds)


def _write(sandbox: Sandbox, argv: list[str], path: Path, most: int, seconds: float) -> None:
    """Write a command's output to a file, or no file for none. Raises SetupFailed."""
    with path.open("wb") as file:

        def write(chunk: bytes) -> None:
            file.write(chunk)

        command = Command(argv, seconds=seconds, output=most, keep=4096)
        result = _run(sandbox, command, on_output=write)
    path.chmod(0o644)
    if not path.stat().st_size:
        path.unlink()
    if result.exit_code != 0 or result.stopped:
        why = "too large" if result.stopped == "output" else result.stopped or result.exit_code
        raise SetupFailed(f"What the setup made could not be kept: {why}")


def unpack(sandbox: Sandbox, packed: Path, *, seconds: float) -> None:
    """Put the archives in place in a fresh sandbox. Raises SetupFailed."""
    result = _run(sandbox, Command(["bash", "-c", UNPACK, str(packed)], seconds=seconds))
    if result.exit_code != 0 or result.stopped:
        said = storable.text(result.text[-500:])
        raise SetupFailed(f"What the setup made could not be put in place: {said}")


def see_made(sandbox: Sandbox, tools: Tools) -> bytes:
    """Return what git does not ignore of it, as the scripts inside take it. Raises SetupFailed."""
    command = Command(
        tools.argv("made"),
        seconds=tools.seconds,
        output=MADE_BYTES,
        keep=MADE_BYTES,
        errors_apart=True,
    )
    result = _run(sandbox, command)
    if result.stopped == "output":
        raise SetupFailed("Setup makes too many files that git does not ignore.")
    if result.exit_code != 0 or result.stopped:
        said = storable.text(result.errors.decode("utf-8", "replace")[-500:])
        raise SetupFailed(f"What the setup made could not be seen: {said}")
    return result.output


def changes_tracked(made: bytes) -> bool:
    """Tell whether tracked files are not as in the base commit (any more)."""
    return any(not facts.startswith(b":000000 ") for facts in made.split(b"\0")[1:-1:2])


def _run(
    sandbox: Sandbox, command: Command, *, on_output: Callable[[bytes], None] | None = None
) -> CommandResult:
    try:
        return sandbox.run(command, on_output=on_output)
    except SandboxLost as error:
        raise SetupFailed(f"What the setup made could not be kept: {error}") from error
