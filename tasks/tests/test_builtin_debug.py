"""Debug by the built-in engine: the smallest safe fix, proven by checks before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.agent.ports import Handback, ToolResult
from tasks.builtin import run_builtin
from tasks.sandbox.base import Sandbox
from tasks.tests.memory_bench import MemoryBench
from tasks.tests.trees import Files, assign, local_sandbox, real_sandbox, sample_files

Steps = Sequence[tuple[str, str, ToolResult]]
IDENTITY = {
    "shop.py": "import os\n\n\ndef is_open(line):\n    return line.split(';')[0] is 'open'\n",
    "check.py": "from shop import is_open\n\nassert is_open('open;1')\n",
}
CHECK = "python check.py"
"""Much faster than pytest, which the tests of checks and of the sample run."""


def debug(
    sandbox: Sandbox, commands: Sequence[str] | None = (CHECK,), replay: Steps = ()
) -> tuple[Handback, MemoryBench]:
    bench = MemoryBench(sandbox, commands=commands, replay=replay)
    return run_builtin(assign("debug", "The tests fail."), bench), bench


def changed(bench: MemoryBench) -> list[str]:
    return [file.path for file in bench.changed_files()]


def test_the_sample_is_cured_in_the_real_sandbox(tmp_path: Path) -> None:
    with real_sandbox(tmp_path, sample_files(tmp_path)) as sandbox:
        done, bench = debug(sandbox, commands=None)
        assert done.status == "done"
        assert done.evidence == "python -m pytest -q: failed → passed"
        assert done.data["rules"] == ["F632"]
        assert changed(bench) == ["ledgerly/money.py"]
        lines = [line for line in bench.diff().splitlines() if line[:1] in "+-"]
    assert lines[2:] == [
        '-        coin = WHOLE if self.currency is "JPY" else CENT',
        '+        coin = WHOLE if self.currency == "JPY" else CENT',
    ]


def test_only_what_cures_is_changed(tmp_path: Path) -> None:
    done, bench = debug(local_sandbox(tmp_path, IDENTITY))
    assert done.data["cured"] == [CHECK]
    assert "import os" in (bench.sandbox.read("shop.py")).decode()
    assert bench.journal.changing == ["apply_fixes"]


def test_files_that_need_no_cure_stay_as_they_are(tmp_path: Path) -> None:
    files = IDENTITY | {"other.py": "def f(x):\n    return x is 'y'\n"}
    done, bench = debug(local_sandbox(tmp_path, files))
    assert done.status == "done"
    assert changed(bench) == ["shop.py"]


def test_two_rules_are_found_where_one_does_not_cure(tmp_path: Path) -> None:
    files = {
        "shop.py": (
            "import os\nimport no_such_module\n\n\n"
            "def is_open(line):\n    return line.split(';')[0] is 'open'\n"
        ),
        # Fails while the unused import stands, too, and says so in its own words.
        "check.py": (
            "try:\n    import shop\nexcept ImportError:\n    raise AssertionError('no import')\n"
            "assert shop.is_open('open;1')\n"
        ),
    }
    done, _ = debug(local_sandbox(tmp_path, files))
    assert done.status == "done", done
    assert sorted(done.data["rules"]) == ["F401", "F632"]


def test_a_failure_beyond_safe_fixes_is_blocked_and_changes_nothing(tmp_path: Path) -> None:
    files = {
        "calc.py": "import os\n\n\ndef add(a, b):\n    return a - b\n",
        "check.py": "from calc import add\n\nassert add(1, 1) == 2\n",
        "zoo.py": "def f(x):\n    return undefined_name\n",
    }
    done, bench = debug(local_sandbox(tmp_path, files))
    assert done.status == "blocked"
    assert "Nothing was changed" in done.summary
    assert changed(bench) == []
    assert bench.journal.changing == []
    assert [one["rule"] for one in done.data["findings"]] == ["F821", "F401", "name-defined"]


def test_a_repository_whose_checks_pass_needs_no_change(tmp_path: Path) -> None:
    files = {"shop.py": "import os\n", "check.py": "import shop\n"}
    done, bench = debug(local_sandbox(tmp_path, files))
    assert done.status == "no_change_needed"
    assert changed(bench) == []


def test_without_a_check_that_can_run_nothing_can_be_proven(tmp_path: Path) -> None:
    files = {"a.py": "x = 1 is 1\n", "check.py": "import no_such_package\n"}
    done, bench = debug(local_sandbox(tmp_path, files))
    assert done.status == "blocked"
    assert "no_such_package is not installed" in done.summary
    assert changed(bench) == []


def test_tests_are_never_edited_to_pass(tmp_path: Path) -> None:
    files = {"test_a.py": "assert 'open;'.split(';')[0] is 'open'\n"}
    done, bench = debug(local_sandbox(tmp_path, files), commands=["python test_a.py"])
    assert done.status == "blocked"
    assert changed(bench) == []


def test_a_failing_linter_is_cured_also_in_tests(tmp_path: Path) -> None:
    files = {
        "pyproject.toml": '[tool.ruff.lint]\nselect = ["I001", "F401"]\n',
        "a.py": "import sys\nimport os\n\nprint(os, sys)\n",
        "test_a.py": "import os\n\n\ndef test_a():\n    pass\n",
    }
    done, bench = debug(local_sandbox(tmp_path, files), commands=["ruff check ."])
    assert done.status == "done", done
    assert done.data["cured"] == ["ruff check ."]
    assert changed(bench) == ["a.py", "test_a.py"]


def test_a_fix_that_breaks_another_check_is_taken_back(tmp_path: Path) -> None:
    files = IDENTITY | {"keep.sh": "grep -q \"is 'open'\" shop.py\n"}
    done, bench = debug(local_sandbox(tmp_path, files), commands=[CHECK, "sh keep.sh"])
    assert done.status == "blocked"
    assert "made another check worse" in done.summary
    assert changed(bench) == []
    assert bench.journal.changing == ["apply_fixes", "take_back"]


def test_code_in_other_languages_is_answered_honestly(tmp_path: Path) -> None:
    files = {"Makefile": "test:\n\tfalse\n", "main.go": "package main\n"}
    done, _ = debug(local_sandbox(tmp_path, files), commands=None)
    assert done.status == "blocked"
    assert "there is no Python code to fix" in done.summary


def test_tries_are_bounded(tmp_path: Path) -> None:
    smells = "import os\nimport sys\nx = not 1 in [2]\ny = list([1])\nz = dict()\n" * 3
    files = {f"m{i}.py": smells for i in range(12)} | {"check.py": "assert 0\n"}
    done, bench = debug(local_sandbox(tmp_path, files))
    assert done.status == "blocked"
    assert 1 <= sum(name == "try_fixes" for name, _, _ in bench.journal.steps) <= 24


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Handback, MemoryBench]:
    return debug(local_sandbox(tmp_path_factory.mktemp("whole"), IDENTITY))


@pytest.mark.parametrize("done_steps", [1, 3, 5, 6])
def test_a_resumed_run_comes_to_the_same_end(
    tmp_path: Path, whole_run: tuple[Handback, MemoryBench], done_steps: int
) -> None:
    first, whole = whole_run
    names = [name for name, _, _ in whole.journal.steps]
    assert names == ["check", "find_fixes", "try_fixes", "try_fixes", "apply_fixes", "check"]
    files: Files = IDENTITY
    if done_steps > names.index("apply_fixes"):
        files = IDENTITY | {"shop.py": whole.sandbox.read("shop.py")}
    sandbox = local_sandbox(tmp_path, files)
    second, resumed = debug(sandbox, replay=whole.journal.steps[:done_steps])
    assert second.data == first.data
    assert sandbox.read("shop.py") == whole.sandbox.read("shop.py")
    assert resumed.journal.effects == len(names) - done_steps
