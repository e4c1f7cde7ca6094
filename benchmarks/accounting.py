"""CPU and memory of a process and everything below it, as the kernel counts them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """One living process; ``cpu_ms`` is its own and that of the children it has waited for."""

    pid: int
    parent: int
    session: int
    cpu_ms: float


def below(root: int) -> list[Process]:
    """Return a process and all its living descendants, parents first."""
    known: dict[int, list[Process]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        found = _read(path)
        if found is not None:
            known.setdefault(found.parent, []).append(found)
    first = _read(Path(f"/proc/{root}/stat"))
    tree = [first] if first else []
    for process in tree:
        tree += known.get(process.pid, [])
    return tree


def _read(path: Path) -> Process | None:
    try:
        fields = path.read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    cpu = sum(int(value) for value in fields[11:15]) * 1000 / TICK
    return Process(int(path.parent.name), int(fields[1]), int(fields[3]), cpu)


def cpu_ms(processes: list[Process]) -> float:
    return sum(process.cpu_ms for process in processes)


def memory_mb(pid: int) -> tuple[float, float]:
    """Return a process's resident set, and its share of it where pages are shared (PSS)."""
    values = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        values[name] = int(value) / 1024
    return values["Rss:"], values["Pss:"]
