"""Starting bubblewrap: directly, or as an unprivileged user when the worker finds itself root."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tasks.sandbox import seccomp
from tasks.sandbox.base import SandboxUnavailable
from tasks.sandbox.channel import sealed_memory
from tasks.sandbox.flags import Descriptors, Plan, command_line, host_paths, own_files
from tasks.sandbox.ownership import is_root, sandbox_ids
from tasks.sandbox.toolchain import find_bwrap

STAGE_PLACES = ("/mnt", "/media", "/srv", "/opt", "/run", "/tmp")  # noqa: S108 (a private mount covers it)


class Stage:
    """Where the sandbox's user finds the host's folders.

    What that user cannot reach (a toolchain or a clone under root's 0700 home) is bound, in a
    mount namespace of its own, to numbered folders that it can.
    """

    def __init__(self, paths: list[Path]) -> None:
        resolved = {path: path.resolve(strict=True) for path in paths}
        for path, real in resolved.items():
            if not _may(real, 0o5):
                raise SandboxUnavailable(f"{path} cannot be read by the sandbox's user ({_who()})")
        hidden = [real for real in resolved.values() if is_root() and not can_enter(real)]
        self.binds: dict[Path, str] = {}
        self.place = _stage_place(list(resolved.values())) if hidden else ""
        for number, real in enumerate(dict.fromkeys(hidden)):
            self.binds[real] = f"{self.place}/{number}"

    def find(self, path: Path) -> str:
        """Return where the sandbox's user finds this path of the host."""
        real = path.resolve(strict=True)
        for folder, target in self.binds.items():
            if real.is_relative_to(folder):
                return str(Path(target, real.relative_to(folder)))
        return str(real)

    def script(self) -> str:
        """Return the shell lines that make the stage and go on with the arguments."""
        make = f"mount -t tmpfs -o size=1m,mode=0755 stage {self.place}"
        folders = f"mkdir {' '.join(self.binds.values())}"
        binds = [
            f"mount --bind {shlex.quote(str(real))} {target}" for real, target in self.binds.items()
        ]
        return " && ".join([make, folders, *binds, 'exec "$@"'])


def can_enter(path: Path) -> bool:
    """Tell whether the sandbox's user may use a folder and every folder above it."""
    return all(_may(folder, 0o1) for folder in path.parents) and _may(path, 0o5)


def _may(path: Path, wanted: int) -> bool:
    uid, gid = sandbox_ids()
    info = path.stat()
    mode = stat.S_IMODE(info.st_mode)
    if info.st_uid == uid:
        mode >>= 6
    elif info.st_gid == gid:
        mode >>= 3
    return mode & wanted == wanted


def _who() -> str:
    uid, gid = sandbox_ids()
    return f"uid {uid}, gid {gid}"


def _stage_place(paths: list[Path]) -> str:
    for place in STAGE_PLACES:
        folder = Path(place)
        is_free = not any(path.is_relative_to(folder) for path in paths)
        if is_free and folder.is_dir() and not folder.is_symlink() and can_enter(folder):
            return place
    raise SandboxUnavailable("no folder is free to bind the toolchain and the workspace to")


def spawn(plan: Plan, inner: socket.socket) -> subprocess.Popen[bytes]:
    """Start a sandbox whose init will say "ready" on ``inner``'s other end.

    Raises SandboxUnavailable for what can be known before. The empty environment is the point:
    with ``--clearenv`` alone a sandbox finds the worker's secrets in /proc.
    """
    bwrap = find_bwrap().resolve()
    try:
        stage = Stage([bwrap.parent, *host_paths(plan)])
    except FileNotFoundError as error:
        raise SandboxUnavailable(f"{error.filename} does not exist") from error
    with _descriptors(plan, inner) as fds:
        argv = [stage.find(bwrap), *command_line(plan, fds, stage.find)]
        return subprocess.Popen(
            [*_as_sandbox_user(stage), *argv],
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=fds.all,
            start_new_session=True,
            cwd="/",
        )


def _as_sandbox_user(stage: Stage) -> list[str]:
    if not is_root():
        return []
    uid, gid = (str(number) for number in sandbox_ids())
    drop = [_program("setpriv"), "--reuid", uid, "--regid", gid, "--clear-groups", "--no-new-privs"]
    if not stage.binds:
        return drop
    private = [_program("unshare"), "-m", "--propagation", "private"]
    path = f"PATH={os.defpath}:/usr/sbin:/sbin"
    # A shell adds variables of its own.
    drop += [_program("env"), "-i"]
    return [*private, _program("sh"), "-c", f"{path}; {stage.script()}", "sh", *drop]


def _program(name: str) -> str:
    if found := shutil.which(name, path=f"{os.defpath}:/usr/sbin:/sbin"):
        return found
    raise SandboxUnavailable(f"a worker that runs as root needs the program {name} (util-linux)")


@contextlib.contextmanager
def _descriptors(plan: Plan, inner: socket.socket) -> Iterator[Descriptors]:
    with contextlib.ExitStack() as stack:
        program = stack.enter_context(sealed_memory(seccomp.filter_program()))
        files = {
            path: stack.enter_context(sealed_memory(content))
            for path, content in own_files(plan).items()
        }
        yield Descriptors(control=inner.fileno(), seccomp=program, files=files)
