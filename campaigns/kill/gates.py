"""Seeing that a run has come to a place, and holding it there where that can be done.

Nothing of the product knows of this: the model server is the campaign's, commands wait for a file
in the mirror (the only folder outside that a sandbox sees), and the ``git`` that workers find
first on their PATH is a script that may wait before or after the real one.
"""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from campaigns.kill import script
from campaigns.kill.crew import Processes
from tasks.models import Step, Task, TaskResult
from tasks.workspace import task_folder

GIT = """#!/bin/sh
# Runs the real git; waits before or after it while a file says so.
task= word= skip=
for argument do
    case $argument in
    *{tasks}/*) task=${{argument#*{tasks}/}}; task=${{task%%/*}} ;;
    esac
    if [ "$skip" ]; then skip=; continue; fi
    case $argument in
    -c) skip=1 ;;
    -*) ;;
    *) [ "$word" ] || word=$argument ;;
    esac
done
hold() {{
    [ -e "{gates}/$task.$word.$1" ] || return 0
    held="{gates}/$task.$word.$1.held"
    mv "{gates}/$task.$word.$1" "$held" 2>/dev/null || return 0
    while [ -e "$held" ]; do sleep 0.02; done
}}
hold before
[ -e "{gates}/$task.$word.after" ] || exec {git} "$@"
{git} "$@"
status=$?
hold after
exit $status
"""


class Gate(Protocol):
    """A place of one run, closed until ``open``."""

    def reached(self) -> bool: ...

    def open(self) -> None: ...


def install_git(folder: Path, tasks: Path) -> Path:
    """Write the waiting git; return the folder that comes first on the workers' PATH."""
    real, gates = shutil.which("git"), folder / "gates"
    gates.mkdir()
    (folder / "bin").mkdir()
    program = folder / "bin" / "git"
    program.write_text(GIT.format(git=real, gates=gates, tasks=tasks))
    program.chmod(0o755)
    return program.parent


@dataclass
class GitGate:
    """Holds the next git of a task that has this sub-command, before or after it."""

    path: Path

    @classmethod
    def close(cls, folder: Path, task_id: uuid.UUID, word: str, when: str) -> GitGate:
        gate = cls(folder / "gates" / f"{task_id}.{word}.{when}")
        gate.path.touch()
        return gate

    @property
    def held(self) -> Path:
        return self.path.with_name(f"{self.path.name}.held")

    def reached(self) -> bool:
        return self.held.exists()

    def close_again(self) -> None:
        """Hold the next git, too; both go on when it opens."""
        self.path.touch()

    def is_passed(self) -> bool:
        """Tell whether a git has taken the gate's mark and waits."""
        return not self.path.exists()

    def open(self) -> None:
        for path in (self.path, self.held):
            path.unlink(missing_ok=True)


@dataclass
class ModelGate:
    """Holds the answer to one call at a part of it; the server's threads wait in ``pass_by``."""

    call: int
    part: str
    _reached: threading.Event = field(default_factory=threading.Event)
    _open: threading.Event = field(default_factory=threading.Event)

    def reached(self) -> bool:
        return self._reached.is_set()

    def open(self) -> None:
        self._open.set()

    def pass_by(self, call: int, part: str) -> None:
        if (call, part) == (self.call, self.part) and not self._open.is_set():
            self._reached.set()
            self._open.wait(300)


@dataclass
class CommandGate:
    """Reached when the command's mark is in the run's overlay; opened by a file in the mirror."""

    task_id: uuid.UUID
    go: Path

    def reached(self) -> bool:
        held = Task.objects.filter(pk=self.task_id).exclude(lease_owner="")
        generation = held.values_list("generation", flat=True).first()
        # A dead attempt's mark stays where it was until the next one clears up.
        marks = task_folder(self.task_id).glob(f"layers-{generation}-*/*/{script.RUNNING}")
        return any(True for _ in marks)

    def open(self) -> None:
        self.go.parent.mkdir(exist_ok=True)
        self.go.touch()


@dataclass
class Seen:
    """A place that cannot be held: whoever asks often sees it in time."""

    look: Callable[[], bool]

    def reached(self) -> bool:
        return self.look()

    def open(self) -> None:
        """Nothing waits here."""


def row_seen(task_id: uuid.UUID, ordinal: int, state: str) -> Seen:
    """Return what is reached when the run that is alive has written this row."""

    def look() -> bool:
        rows = Step.objects.filter(task_id=task_id, ordinal=ordinal, state=state)
        generation = rows.values_list("generation", flat=True).last()
        return generation is not None and is_held(task_id, generation)

    return Seen(look)


def is_held(task_id: uuid.UUID, generation: int) -> bool:
    return bool(Task.objects.held(task_id, generation).exists())


def result_seen(task_id: uuid.UUID) -> Seen:
    return Seen(lambda: TaskResult.objects.filter(task_id=task_id).exists())


def process_seen(task_id: uuid.UUID, words: str) -> Seen:
    """Return what is reached while a process with these words runs in the task's sandbox."""

    def look() -> bool:
        there = Processes.now()
        found = there.with_words(words.replace(" ", "\0"))
        return any(there.is_below(pid, f"/{task_id}/") for pid in found)

    return Seen(look)


def moment(seconds: float) -> Seen:
    at = time.monotonic() + seconds
    return Seen(lambda: time.monotonic() >= at)
