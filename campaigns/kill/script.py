"""The task that is killed: thirty steps of every kind, the same for every task and attempt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.tests.world import bash, call, finish

STEPS = 30
CALLS = STEPS + 2
"""Two more calls end the run: the first finish is answered with a list, the second one counts."""
BIG_BYTES = 2 * 1024**2
"""What git needs a moment for, so that it can be met at work inside the sandbox."""
FILES = {
    "app.py": "step = 0\nprint('hello')\n",
    "check.sh": "sleep 0.4\ngrep -q hello app.py\n",
    "notes.txt": "notes\n",
    "old.txt": "goes away\n",
}
CHECK = "sh check.sh"
RUNNING = ".running"
Turn = dict[str, Any]
Command = Callable[[int], str]

ROUND: tuple[Command, ...] = (
    lambda n: f"echo line {n} >> notes.txt && mkdir -p src && echo 'part = {n}' > src/part{n}.py",
    lambda n: "",
    lambda n: f"mv src/part{n - 2}.py src/moved{n - 2}.py && chmod +x src/moved{n - 2}.py",
    lambda n: "",
    lambda n: f"ln -s moved{n - 4}.py src/link{n} && rm -f old.txt; cat notes.txt; test {n} -ne 11",
    lambda n: "",
)
BIG_STEPS = (9, 15)
BIG = {**dict.fromkeys(BIG_STEPS, f"head -c {BIG_BYTES} /dev/urandom > big"), 21: "rm big"}
"""Commands that take a place in the round; the last of them takes the weight away again."""


def commands() -> list[int]:
    """Return the numbers of the steps that run a command."""
    return [number for number in range(1, STEPS + 1) if _command(number)]


def changing() -> list[int]:
    """Return the numbers of the steps that leave a checkpoint."""
    return [number for number in range(1, STEPS + 1) if _command(number) or _is_edit(number)]


def turn(number: int, waits_for: Path | None = None) -> Turn:
    """Return what the model says when it is asked for the ``number``-th time (from 1).

    With ``waits_for`` its command shows that it runs and waits until that path is there.
    """
    if number > STEPS:
        said = finish()[0]
    elif command := _command(number):
        said = bash(_waiting(command, waits_for) if waits_for else command)
    elif _is_edit(number):
        last = max((earlier for earlier in range(1, number) if _is_edit(earlier)), default=0)
        new = f"step = {number}\n"
        said = _calls(call("edit", path="app.py", old=f"step = {last}\n", new=new))
    elif number % 3:
        said = _calls(call("view", path="notes.txt", start=1, end=number))
    else:
        said = _calls(call("search", pattern=f"line {number - 5}|part"))
    return said | {"usage": {"input": 1000 + number, "cached": 0, "output": 100 + number}}


def _command(number: int) -> str:
    return BIG.get(number) or ROUND[(number - 1) % len(ROUND)](number)


def _is_edit(number: int) -> bool:
    return not _command(number) and number % 6 == 2


def _waiting(command: str, path: Path) -> str:
    # Half of the effect comes before the wait: a kill must not leave it behind.
    return f"touch {RUNNING}; {command}; code=$?; until [ -e {path} ]; do sleep 0.05; done; rm {RUNNING}; exit $code"


def _calls(wanted: dict[str, Any]) -> Turn:
    return {"text": f"I use {wanted['name']} now.", "tool_calls": [wanted]}
