"""Where the milliseconds of a run go: named functions say when they began and when they ended.

``python -m benchmarks.tracing FILE ARGUMENTS`` is ``manage.py ARGUMENTS`` with the functions of
``TRACED`` wrapped in it and in all that it forks; each call is a line of FILE. The lines cost a
few microseconds each, so that a profile is a little slower than what it explains.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRACED: dict[str, str] = {
    "tasks.lease.claim": "claim",
    "tasks.forkserver.ForkServer.spawn": "fork",
    "tasks.runner.run_in_child": "run",
    "tasks.setup.find_start": "start: mirror and commit",
    "tasks.workspace.RunWorkspace.prepare": "workspace: store and folders",
    "tasks.workspace.RunWorkspace._open": "workspace: base and sandbox",
    "tasks.workspace.RunWorkspace.checkpoint": "checkpoint",
    "tasks.workspace.RunWorkspace._traces": "checkpoint: look for changes",
    "tasks.journal.RunJournal._begin": "journal: a step begins",
    "tasks.journal.RunJournal._settle_tool": "journal: a tool's step is settled",
    "tasks.journal.RunJournal._settle_call": "journal: a call is settled",
    "tasks.purse.Purse.reserve": "money: reserved",
    "tasks.purse.Purse.charge": "money: charged",
    "aimodels.usage.record": "statistics of the call",
    "tasks.events.append": "event",
    "tasks.bench.RunBench.set_progress": "progress",
    "repositories.git.store.accept_checkpoint": "checkpoint: check and keep",
    "tasks.packs.keep": "checkpoint: pack to the storage",
    "tasks.bench.RunBench.run_checks": "checks on the base",
    "tasks.setup.assignment": "brief",
    "tasks.runner._engine": "engine",
    "aimodels.providers.connect": "provider's client",
    "aimodels.providers.openai.OpenAIProvider.complete": "request to the model",
    "repositories.git.command.run": "git",
    "tasks.sandbox.bubblewrap.Bubblewrap.__enter__": "sandbox: start",
    "tasks.sandbox.bubblewrap.Bubblewrap.run": "sandbox: command",
    "tasks.sandbox.bubblewrap.Bubblewrap.read": "sandbox: read",
    "django.db.backends.base.base.BaseDatabaseWrapper.connect": "database: connect",
    "django.db.backends.base.base.BaseDatabaseWrapper._commit": "database: commit",
    "django.db.backends.utils.CursorWrapper.execute": "database: statement",
    "asynccoder.lib.bus._publish": "notice over Redis",
    "asynccoder.lib.redact.text": "redaction",
}
"""What is wrapped, and its name in a profile."""

STATEMENT = re.compile(r'INSERT INTO "(\w+)"')

_out = -1
_stack = threading.local()


@dataclass(frozen=True, slots=True)
class Span:
    """One call: seconds of the machine's monotonic clock.

    ``own`` is without the calls in it, and ``cpu`` what its thread used of the processor in that.
    """

    pid: int
    name: str
    begin: float
    end: float
    own: float
    cpu: float
    detail: str = ""


Window = tuple[int, float, float]
"""A process, and from when to when, in seconds of the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a profile, an average over what was measured."""

    name: str
    calls: float
    ms: float
    cpu_ms: float


def read(path: Path) -> list[Span]:
    """Return the spans of a file in the order in which they ended."""
    return [Span(*json.loads(line)) for line in path.read_text().splitlines()]


def profile(spans: Iterable[Span], windows: Sequence[Window]) -> list[Row]:
    """Return where the time of windows goes, the largest part first.

    A span that is not wholly in a window counts nothing; what is in no span is the last line.
    """
    calls: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    used: dict[str, float] = defaultdict(float)
    whole = sum(end - begin for _, begin, end in windows)
    known = sorted(spans, key=lambda span: span.begin)
    for pid, begin, end in windows:
        for span in known:
            if span.pid == pid and begin <= span.begin and span.end <= end:
                name = f"git {span.detail}" if span.name == "git" else span.name
                calls[name] += 1
                seconds[name] += span.own
                used[name] += span.cpu
    rest = whole - sum(seconds.values())
    count = len(windows)
    rows = [
        Row(key, calls[key] / count, 1000 * seconds[key] / count, 1000 * used[key] / count)
        for key in seconds
    ]
    rows.sort(key=lambda row: -row.ms)
    rows.append(Row("the rest", 1, 1000 * rest / count, 0.0))
    return [*rows, Row("whole", 1, 1000 * whole / count, 0.0)]


def print_profile(bench: str, what: str, spans: Iterable[Span], windows: Sequence[Window]) -> None:
    """Print a line a part: how often it comes, its wall time and what this thread computed."""
    for row in profile(spans, windows):
        line: dict[str, object] = {"bench": bench, "profile": what, "part": row.name}
        line |= {"calls": round(row.calls, 1), "ms": round(row.ms, 2)}
        print(json.dumps(line | {"cpu_ms": round(row.cpu_ms, 2)}), flush=True)


# --- the traced end ----------------------------------------------------------------------------


def wrap(dotted: str, name: str) -> None:
    """Wrap a function in every loaded module that has it, or a method in its class."""
    owner, attribute = _find(dotted)
    known = vars(owner)[attribute]

    @functools.wraps(known)
    def traced(*args: Any, **kwargs: Any) -> Any:
        parents = _stack.__dict__.setdefault("inner", [])
        parents.append((0.0, 0.0))
        began, began_cpu = time.monotonic(), time.thread_time()
        try:
            return known(*args, **kwargs)
        finally:
            whole, cpu = time.monotonic() - began, time.thread_time() - began_cpu
            inner, inner_cpu = parents.pop()
            values = [os.getpid(), name, began, began + whole, whole - inner, cpu - inner_cpu]
            os.write(_out, f"{json.dumps([*values, _detail(name, args)])}\n".encode())
            if parents:
                before, before_cpu = parents[-1]
                spent, spent_cpu = time.monotonic() - began, time.thread_time() - began_cpu
                parents[-1] = (before + spent, before_cpu + spent_cpu)

    for holder in [owner, *_modules()]:
        for key, value in list(vars(holder).items()):
            if value is known:
                setattr(holder, key, traced)


def _detail(name: str, args: tuple[Any, ...]) -> str:
    """Say which git or which statement it was."""
    if name == "git":
        return str(args[0].args[0])
    if name == "database: statement":
        found = STATEMENT.match(str(args[1]))
        return f"INSERT {found[1]}" if found else ""
    return ""


def _find(dotted: str) -> tuple[Any, str]:
    """Return the module or class that holds a function, and the function's name in it."""
    path, _, attribute = dotted.rpartition(".")
    try:
        return importlib.import_module(path), attribute
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name), attribute


def _modules() -> Iterator[Any]:
    return iter([module for module in sys.modules.values() if hasattr(module, "__dict__")])


def main() -> None:
    global _out
    file, *arguments = sys.argv[1:]
    _out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    import django
    from django.core.management import execute_from_command_line

    django.setup()
    importlib.import_module("tasks.management.commands.worker")
    for dotted, name in TRACED.items():
        wrap(dotted, name)
    execute_from_command_line(["manage.py", *arguments])


if __name__ == "__main__":
    # Under its own name: what it wraps must be the module that others import.
    from benchmarks import tracing

    tracing.main()
