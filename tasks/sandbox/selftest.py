"""The escape self-test: a worker runs it when it starts and refuses to serve if one gets out."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.sandbox.base import Command, Limits, SandboxLost, SandboxUnavailable, Workspace
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.sandbox.ownership import prepare_owned
from tasks.sandbox.seccomp import MACHINES
from tasks.sandbox.toolchain import Toolchain

PROBE = (Path(__file__).parent / "probe.py").read_bytes()
PROCESSES = 24
CALLS = (
    "ptrace", "keyctl", "add_key", "io_uring_setup", "bpf", "userfaultfd", "perf_event_open",
    "mount", "setns", "process_vm_readv", "pidfd_getfd", "open_by_handle_at", "fsopen", "syslog",
)  # fmt: skip
CANARY_VARIABLE = "SANDBOX_SELF_TEST_CANARY"


@dataclass(frozen=True, slots=True)
class Finding:
    """One attack: ``detail`` says how it got out where it was not ``held``."""

    name: str
    held: bool
    detail: str = ""


def run(toolchain: Toolchain) -> list[Finding]:
    """Attack a sandbox from inside and return what came of it. Raises SandboxUnavailable."""
    with (
        tempfile.TemporaryDirectory(prefix="sandbox-self-test-") as name,
        _bait(Path(name)) as bait,
    ):
        workspace = Workspace(base=prepare_owned(Path(name, "workspace")))
        sandbox = Bubblewrap(workspace, Limits(processes=PROCESSES), toolchain=toolchain)
        with _canary_in_environment(bait["canary"]), sandbox:
            found = attack(sandbox, toolchain, bait)
        found |= _seen_from_outside(Path(name))
    return [Finding(name, not detail, detail) for name, detail in found.items()]


def require(toolchain: Toolchain) -> list[Finding]:
    """Return the findings, or raise SandboxUnavailable that names every attack that got out."""
    findings = run(toolchain)
    if out := [f"{finding.name} ({finding.detail})" for finding in findings if not finding.held]:
        raise SandboxUnavailable(f"the sandbox does not hold: {', '.join(out)}")
    return findings


def can_overlay(folder: Path, toolchain: Toolchain) -> bool:
    """Tell whether workspaces under ``folder`` can be overlays.

    They cannot with bubblewrap before 0.11, nor on a file system that is an overlay itself, as
    the root of most containers is. Raises SandboxUnavailable where no sandbox can be made at all.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="overlay-trial-") as name:
        trial = prepare_owned(Path(name))
        base, upper, work = (prepare_owned(trial / part) for part in ("base", "upper", "work"))
        try:
            with Bubblewrap(Workspace(base, upper, work), toolchain=toolchain) as sandbox:
                return sandbox.run(Command(["touch", "made"])).exit_code == 0
        except SandboxUnavailable:
            with Bubblewrap(Workspace(base), toolchain=toolchain):
                return False


def attack(sandbox: Bubblewrap, toolchain: Toolchain, bait: dict[str, Any]) -> dict[str, str]:
    """Run the probe and return, for each attack, how it got out ("" where it did not)."""
    argv = [str(toolchain.python), "-I", "-S", "-", json.dumps(bait)]
    try:
        result = sandbox.run(Command(argv, seconds=30, stdin=PROBE, errors_apart=True))
    except SandboxLost as error:
        raise SandboxUnavailable(f"the self-test ended its sandbox: {error}") from error
    try:
        found = json.loads(result.output)
    except ValueError:
        complaint = result.errors.decode("utf-8", "replace").strip().splitlines()
        reason = complaint[-1] if complaint else f"exit code {result.exit_code}"
        raise SandboxUnavailable(f"the self-test did not run in the sandbox: {reason}") from None
    return {str(name): str(detail) for name, detail in found.items()}


def refused_calls() -> dict[str, int]:
    """Return the numbers, on this machine, of the system calls that the probe makes."""
    machine = MACHINES[platform.machine()]
    numbers = {**machine.denied, **machine.everywhere}
    return {
        **{name: numbers[name] for name in CALLS},
        "memfd_create": machine.memfd_create,
    }


def _seen_from_outside(folder: Path) -> dict[str, str]:
    """What the probe cannot judge from inside."""
    written = folder / "outside" / "written"
    return {"written_on_host": str(written) if written.exists() else ""}


@contextlib.contextmanager
def _canary_in_environment(canary: str) -> Iterator[None]:
    """Stand for a secret that the worker holds while it starts the sandbox."""
    os.environ[CANARY_VARIABLE] = canary
    try:
        yield
    finally:
        del os.environ[CANARY_VARIABLE]


@contextlib.contextmanager
def _bait(folder: Path) -> Iterator[dict[str, Any]]:
    """Set out what an attacker would want: a file, sockets, a process, a descriptor."""
    canary = secrets.token_hex(16)
    folder.chmod(0o755)
    outside = folder / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    secret = outside / "secret"
    secret.write_text(canary)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_inheritable(secret))
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = f"sandbox-self-test-{canary}"
        stack.enter_context(_unix_server("\0" + abstract))
        stack.enter_context(_unix_server(str(outside / "socket")))
        victim = stack.enter_context(_victim())
        yield {
            "canary": canary,
            "file": str(secret),
            "folder": str(outside),
            "port": tcp.getsockname()[1],
            "abstract": abstract,
            "socket": str(outside / "socket"),
            "victim": victim,
            "processes": PROCESSES,
            "calls": refused_calls(),
        }


@contextlib.contextmanager
def _inheritable(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY)
    os.set_inheritable(fd, True)  # noqa: FBT003 (positional in the standard library)
    try:
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def _unix_server(address: str) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        if not address.startswith("\0"):
            Path(address).chmod(0o777)
        yield


@contextlib.contextmanager
def _victim() -> Iterator[int]:
    """Lend the pid of a process of the host that an attack may try to signal."""
    process = subprocess.Popen(["sleep", "60"], env={})
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
