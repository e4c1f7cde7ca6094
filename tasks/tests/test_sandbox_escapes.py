"""Every attack of the threat model, inside (nothing gets out) and outside (it does fire)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tasks.sandbox import flags, launch, probe, selftest
from tasks.sandbox.base import Command, SandboxUnavailable
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.sandbox.ownership import is_root
from tasks.sandbox.toolchain import Toolchain, find_bwrap
from tasks.tests.sandboxes import make_place, python, shell

CALLS = [f"call_{name}" for name in selftest.refused_calls()]
NAMES = [*probe.ATTACKS, *CALLS]
# What the kernel, or the container that the tests run in, may refuse to everyone.
OWN_CHOICE = {
    "user_namespace", "foreign_calls", "socket_families", "unfiltered", "interfaces",
    "host_processes", "new_privileges", "call_io_uring_setup", "call_userfaultfd",
    "call_perf_event_open", "call_keyctl", "call_add_key", "call_bpf", "call_syslog",
}  # fmt: skip
NEEDS_ROOT = {"device_node", "capabilities", "first_process", *CALLS}


@pytest.fixture(scope="module")
def inside() -> dict[str, str]:
    """What came of each attack in a sandbox."""
    return {finding.name: finding.detail for finding in selftest.run(Toolchain.of_platform())}


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What came of the same attacks in a plain process with the worker's environment."""
    folder = tmp_path_factory.mktemp("bait")
    cwd = tmp_path_factory.mktemp("cwd")
    with selftest._bait(folder) as bait, selftest._canary_in_environment(bait["canary"]):
        result = subprocess.run(
            [sys.executable, "-I", "-S", "-", json.dumps(bait)],
            input=selftest.PROBE,
            capture_output=True,
            check=True,
            cwd=cwd,
            close_fds=False,
        )
    found: dict[str, str] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("name", [*NAMES, "written_on_host"])
def test_nothing_gets_out(inside: dict[str, str], name: str) -> None:
    assert inside[name] == ""


@pytest.mark.parametrize("name", NAMES)
def test_the_attack_fires_without_a_sandbox(outside: dict[str, str], name: str) -> None:
    if not outside[name] and (name in OWN_CHOICE or (name in NEEDS_ROOT and not is_root())):
        pytest.skip("this machine refuses it to this user anyway")
    assert outside[name] != ""


def test_the_self_test_is_quick_and_covers_every_attack() -> None:
    findings = selftest.require(Toolchain.of_platform())
    assert {finding.name for finding in findings} == {*NAMES, "written_on_host"}


# --- A sandbox whose flags are not all there is refused ------------------------------------------


def without(*dropped: str) -> Any:
    """Return a builder of command lines that lacks some flags and their values, as a broken bubblewrap would."""
    real = flags.command_line

    def build(*arguments: Any) -> list[str]:
        line = real(*arguments)
        for flag in dropped:
            place = line.index(flag)
            del line[place : place + 2]
        return line

    return build


def test_the_self_test_names_what_gets_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "command_line", without("--seccomp"))
    with pytest.raises(SandboxUnavailable, match=r"does not hold.*unfiltered.*call_keyctl"):
        selftest.require(Toolchain.of_platform())


def test_a_shared_network_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flags, "NAMESPACES", (*flags.NAMESPACES, "--share-net"))
    with pytest.raises(SandboxUnavailable, match="loopback"):
        selftest.require(Toolchain.of_platform())


def test_the_workers_environment_is_found_when_it_is_given_to_bubblewrap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """--clearenv alone: bubblewrap's own reaper, PID 1 without ours, still shows it."""
    argv = [str(find_bwrap()), "--unshare-pid", "--proc", "/proc", "--ro-bind", "/usr", "/usr"]
    argv += ["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--clearenv"]
    leak = subprocess.run(
        [*argv, "--", "/usr/bin/cat", "/proc/1/environ"],
        env={"SECRET": "canary"},
        capture_output=True,
        check=False,
    )
    assert b"canary" in leak.stdout


# --- What needs a sandbox to be tried at all -----------------------------------------------------


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bubblewrap]:
    with make_place(tmp_path_factory.mktemp("place")).sandbox() as sandbox:
        yield sandbox


WRITABLE = ["/x", "/dev/x", "/etc/x", "/usr/x", "/run/x", "/var/x", "/home/x", "/proc/x", "/root/x"]


def test_nothing_of_the_system_is_writable(sandbox: Bubblewrap) -> None:
    found = sandbox.run(shell(f"for f in {' '.join(WRITABLE)}; do touch $f && echo OUT $f; done"))
    assert "OUT" not in found.text
    assert found.text.count("touch:") == len(WRITABLE)


def test_bubblewraps_root_would_be_writable_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "command_line", without("--remount-ro", "--remount-ro"))
    with make_place(tmp_path).sandbox() as sandbox:
        assert sandbox.run(shell("touch /x /dev/x /etc/x && echo OUT")).text == "OUT\n"


def test_a_neighbour_is_open_and_the_first_process_is_not(sandbox: Bubblewrap) -> None:
    script = (
        "sleep 9 & for pid in $! 1; do for f in environ maps mem; do "
        "head -c 0 /proc/$pid/$f 2>/dev/null && echo $pid $f; done; "
        "ls /proc/$pid/fd >/dev/null 2>&1 && echo $pid fd; done; echo neighbour $!"
    )
    lines = sandbox.run(shell(script)).text.splitlines()
    neighbour = lines.pop().split()[1]
    assert lines == [f"{neighbour} {name}" for name in ("environ", "maps", "mem", "fd")]


def test_the_first_process_cannot_be_ended_stopped_or_limited(sandbox: Bubblewrap) -> None:
    signals = "for s in KILL STOP TERM INT HUP SEGV USR1 CHLD CONT; do kill -$s 1; done"
    limit = (
        "import resource, os\n"
        "try: resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0)); print('OUT')\n"
        "except OSError as error: print(error.errno)\n"
        "resource.prlimit(0, resource.RLIMIT_NOFILE, (64, 64)); print('own limits are free')"
    )
    assert sandbox.run(shell(f"{signals}; echo done")).text == "done\n"
    assert sandbox.run(python(limit)).text == "1\nown limits are free\n"
    assert sandbox.run(shell("echo alive")).text == "alive\n"


def test_another_process_could_be_limited_without_the_filter() -> None:
    with ExitStack() as stack:
        victim = stack.enter_context(subprocess.Popen(["sleep", "30"]))
        stack.callback(victim.kill)
        source = "import resource, sys; resource.prlimit(int(sys.argv[1]), 7, (0, 0))"
        subprocess.run([sys.executable, "-c", source, str(victim.pid)], check=True)
        limits = Path(f"/proc/{victim.pid}/limits").read_text()
    assert any(line.split()[:4] == ["Max", "open", "files", "0"] for line in limits.splitlines())


def test_a_sandbox_inside_the_sandbox_is_refused(sandbox: Bubblewrap) -> None:
    nested = sandbox.run(
        Command([str(find_bwrap()), "--ro-bind", "/", "/", "--unshare-all", "true"])
    )
    assert nested.exit_code != 0


def test_the_host_is_not_seen(sandbox: Bubblewrap) -> None:
    script = "cat /etc/shadow /etc/hostname /proc/1/environ; ls /root /home /tmp /sys; hostname"
    text = sandbox.run(shell(script)).text
    assert text.count("No such file or directory") >= 3
    assert "root:$" not in text
    assert text.endswith("sandbox\n")
    assert os.uname().nodename not in text.replace("sandbox", "")


def test_a_tenants_process_is_not_root_on_the_host(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    with place.sandbox() as sandbox:
        sandbox.run(shell("touch made"))
    assert place.workspace.upper is not None
    assert (place.workspace.upper / "made").stat().st_uid != 0
