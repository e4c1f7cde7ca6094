"""The bubblewrap command line of a sandbox: what it sees, and nothing more."""

from __future__ import annotations

import functools
import importlib.util
import marshal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.sandbox import relay
from tasks.sandbox.base import WORKSPACE, Limits, Workspace
from tasks.sandbox.toolchain import Toolchain

HOME = "/home/agent"
INNER_ID = 1000
LARGEST_COVER = 64 * 1024
INIT = "/run/init.py"
RELAY = "/run/relay.py"
PROXY_URL = "http://127.0.0.1:3128"
PROXY_ENVIRONMENT = {
    **dict.fromkeys(("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"), PROXY_URL),
    # Servers that a test starts are inside, on the sandbox's own loopback.
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1,::1"),
}
SYSTEM_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
SYSTEM_FILES = (
    "/etc/alternatives", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted", "/etc/ca-certificates", "/etc/ld.so.cache", "/etc/ld.so.conf",
    "/etc/ld.so.conf.d", "/etc/localtime", "/etc/mime.types", "/etc/protocols", "/etc/services",
    "/etc/fonts", "/etc/magic",
)  # fmt: skip
NAMESPACES = (
    "--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session",
    "--as-pid-1", "--clearenv", "--cap-drop", "ALL", "--uid", str(INNER_ID), "--gid",
    str(INNER_ID), "--hostname", "sandbox",
)  # fmt: skip

OWN_FILES = {
    "/etc/passwd": (
        f"root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nagent:x:{INNER_ID}:{INNER_ID}:Agent:{HOME}"
        ":/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "/etc/group": f"root:x:0:\nagent:x:{INNER_ID}:\nnogroup:x:65534:\n",
    "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
"""Small files that the host makes up, by their path inside."""

Finder = Callable[[Path], str]
"""Where the sandbox's user finds a path of the host (see launch.Stage)."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """Open files that bubblewrap and the init inherit, by number."""

    control: int
    seccomp: int
    files: dict[str, int]

    @property
    def all(self) -> tuple[int, ...]:
        return (self.control, self.seccomp, *self.files.values())


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a sandbox is made from."""

    workspace: Workspace
    limits: Limits
    toolchain: Toolchain
    marker: str


def command_line(plan: Plan, fds: Descriptors, find: Finder) -> list[str]:
    """Return bubblewrap's arguments, from the first option to the init's last argument."""
    return [
        *NAMESPACES,
        *_system(),
        *_own_files(fds),
        *_own_mounts(plan.limits),
        *_toolchain(plan.toolchain, find),
        *_workspace(plan.workspace, find),
        *_proxy(plan.workspace, find),
        *_sealed(plan.toolchain),
        *("--seccomp", str(fds.seccomp), "--chdir", "/", "--"),
        *_init(plan, fds),
    ]


def own_files(plan: Plan) -> dict[str, bytes]:
    """Return the content of the files that the host makes up, by their path inside."""
    programs = [INIT, RELAY] if plan.workspace.proxy else [INIT]
    texts = {path: text.encode() for path, text in OWN_FILES.items()}
    return texts | {path: program(path, plan.toolchain.python) for path in programs}


@functools.cache
def program(path: str, python: Path) -> bytes:
    """Return a program of ours, by its path inside, as a Python is to be given it.

    That is its byte code for the Python that runs us, which would compile it at each start (2 ms),
    and its text for any other one.
    """
    text = (Path(__file__).parent / PurePosixPath(path).name).read_text()
    if python.resolve() != Path(sys.executable).resolve():
        return text.encode()
    code = compile(text, path, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code)


def host_paths(plan: Plan) -> list[Path]:
    """Return every folder of the host, outside the system's, that the sandbox's user must reach."""
    workspace = plan.workspace
    paths = [*lower_layers(workspace), *workspace.read_only_paths, *plan.toolchain.prefixes]
    if workspace.upper and workspace.work:
        paths.append(overlay_folder(workspace.upper, workspace.work))
    elif workspace.upper:
        paths.append(workspace.upper)
    if workspace.proxy:
        paths.append(workspace.proxy.parent)
    return paths


def lower_layers(workspace: Workspace) -> list[Path]:
    """Return what lies below the written layer; the one named last lies on top."""
    return [workspace.base, *([workspace.layer] if workspace.layer else [])]


def overlay_folder(upper: Path, work: Path) -> Path:
    """Return the folder that holds both: the kernel wants the two under one mount."""
    if upper.parent != work.parent:
        raise ValueError("the overlay's upper and work folders must be siblings")
    return upper.parent


def _system() -> list[str]:
    flags = ["--ro-bind", "/usr", "/usr"]
    for name in SYSTEM_LINKS:
        path = Path("/", name)
        if path.is_symlink():
            flags += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            flags += ["--ro-bind", str(path), str(path)]
    for name in SYSTEM_FILES:
        flags += ["--ro-bind-try", name, name]
    return flags


def _own_files(fds: Descriptors) -> list[str]:
    flags: list[str] = []
    for path, fd in fds.files.items():
        flags += ["--perms", "0444", "--file", str(fd), path]
    return flags


def _own_mounts(limits: Limits) -> list[str]:
    small = min(limits.tmp // 4, 64 * 1024**2)
    return [
        *("--proc", "/proc", "--dev", "/dev"),
        *("--size", str(small), "--tmpfs", "/dev/shm"),  # noqa: S108 (a mount point inside)
        *("--perms", "1777", "--size", str(limits.tmp), "--tmpfs", "/tmp"),  # noqa: S108 (as above)
        *("--size", str(limits.tmp // 2), "--tmpfs", HOME),
        *("--dir", "/var", "--symlink", "../tmp", "/var/tmp"),  # noqa: S108 (as above)
    ]


def _toolchain(toolchain: Toolchain, find: Finder) -> list[str]:
    """Show the prefixes and cover what is hidden, outer folders first."""
    mounts = {prefix: ["--ro-bind", find(prefix), str(prefix)] for prefix in toolchain.prefixes}
    for path in toolchain.hidden:
        mounts[path] = ["--size", str(LARGEST_COVER), "--tmpfs", str(path)]
    ordered = sorted(mounts, key=lambda path: len(path.parts))
    return [flag for path in ordered for flag in mounts[path]]


def _sealed(toolchain: Toolchain) -> list[str]:
    """Bwrap's root and /dev are writable memory until they are sealed; so are covers."""
    paths = ["/dev", *(str(path) for path in toolchain.hidden), "/"]
    return [flag for path in paths for flag in ("--remount-ro", path)]


def _workspace(workspace: Workspace, find: Finder) -> list[str]:
    flags: list[str] = []
    for path in workspace.read_only_paths:
        flags += ["--ro-bind", find(path), str(path)]
    upper, work = workspace.upper, workspace.work
    if upper is None and workspace.layer is None:
        bind = "--ro-bind" if workspace.read_only else "--bind"
        return [*flags, bind, find(workspace.base), WORKSPACE]
    for path in lower_layers(workspace):
        flags += ["--overlay-src", find(path)]
    if workspace.read_only:
        top = ["--overlay-src", find(upper)] if upper else []
        return [*flags, *top, "--ro-overlay", WORKSPACE]
    if upper is None or work is None:
        raise ValueError("an overlay needs an upper and a work folder")
    return [*flags, "--overlay", find(upper), find(work), WORKSPACE]


def _proxy(workspace: Workspace, find: Finder) -> list[str]:
    """Show the proxy's socket. Read-only binds the name; a connection is no write."""
    if workspace.proxy is None:
        return []
    return ["--ro-bind", find(workspace.proxy), relay.PROXY_SOCKET]


def _init(plan: Plan, fds: Descriptors) -> list[str]:
    python = [str(plan.toolchain.python), "-I", "-S", INIT]
    limits = ",".join(f"{name}={value}" for name, value in resource_limits(plan.limits).items())
    relays = [RELAY] if plan.workspace.proxy else []
    return [*python, plan.marker, str(fds.control), limits, *relays]


def resource_limits(limits: Limits) -> dict[str, int]:
    """Return what the init sets on itself, so that it is counted per sandbox."""
    return {
        # The init itself is one of them.
        "RLIMIT_NPROC": limits.processes + 1,
        "RLIMIT_NOFILE": limits.open_files,
        "RLIMIT_FSIZE": limits.file,
        "RLIMIT_CORE": 0,
    }
