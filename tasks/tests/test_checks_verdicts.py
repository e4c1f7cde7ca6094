"""A check's verdict, from real runs in the real sandbox: never "passed" for what did not run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.analysis import checks
from tasks.analysis.base import Tree
from tasks.analysis.verdicts import is_worse, judge
from tasks.sandbox.base import Command, CommandResult, Sandbox
from tasks.tests.trees import real_sandbox

FILES = {
    "own.py": "VALUE = 1\n",
    "good/test_good.py": "def test_a():\n    print('fine')\n",
    "bad/test_bad.py": "def test_a():\n    assert 1 == 2\n",
    "skipped/test_s.py": "import pytest\n\n@pytest.mark.skip\ndef test_a(): pass\n",
    "foreign/test_f.py": "import no_such_package\n\ndef test_a(): pass\n",
    "ours/test_o.py": "import own.missing\n\ndef test_a(): pass\n",
    "mixed/test_f.py": "import no_such_package\n\ndef test_a(): pass\n",
    "mixed/test_broken.py": "1 / 0\n",
    "half/test_h.py": "def test_a(): pass\n\ndef test_b():\n    import no_such_package\n",
    "plugin/pytest.ini": "[pytest]\naddopts = --no-such-option\n",
    "plugin/test_p.py": "def test_a(): pass\n",
    "conf/conftest.py": "1 / 0\n",
    "conf/test_c.py": "def test_a(): pass\n",
    "confmissing/conftest.py": "import no_such_package\n",
    "confmissing/test_c.py": "def test_a(): pass\n",
    "empty/notes.py": "",
    "unit/test_u.py": "import unittest\nimport no_such_package\n",
    "unitbad/test_u.py": (
        "import unittest\n\nclass T(unittest.TestCase):\n    def test_a(self): self.fail('x')\n"
    ),
    "Makefile": "gone:\n\tno-such-program\nfalse:\n\tfalse\n",
    "package.json": '{"devDependencies": {"jest": "1"}, "scripts": {"test": "jest"}}',
    "hang.py": "import time\ntime.sleep(60)\n",
}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with real_sandbox(tmp_path_factory.mktemp("verdicts"), FILES) as running:
        yield running


@pytest.mark.parametrize(
    ("command", "verdict", "reason"),
    [
        ("python -m pytest -q good", "passed", ""),
        ("python -m pytest -q bad", "failed", ""),
        ("python -m pytest -q skipped", "not_run", "every test was skipped"),
        ("python -m pytest -q empty", "not_run", "there are no tests"),
        ("python -m pytest -q foreign", "not_run", "the module no_such_package is not installed"),
        ("python -m pytest -q ours", "failed", ""),
        ("python -m pytest -q mixed", "failed", ""),
        ("python -m pytest -q half", "failed", ""),
        ("python -m pytest -q conf", "failed", ""),
        (
            "python -m pytest -q confmissing",
            "not_run",
            "the module no_such_package is not installed",
        ),
        ("cd plugin && python -m pytest -q", "not_run", "--no-such-option"),
        ("python -m pytest -q nowhere", "not_run", "nowhere"),
        ("python -m unittest discover -s unit", "not_run", "no_such_package"),
        ("python -m unittest discover -s unitbad", "failed", ""),
        ("python -m unittest discover -s empty", "not_run", "there are no tests"),
        ("python -m no_such_package", "not_run", "the module no_such_package is not installed"),
        ("python -c 'import own; assert own.VALUE == 1'", "passed", ""),
        ("python -c 'import own; assert own.VALUE == 2'", "failed", ""),
        ("no-such-program --check", "not_run", "command not found: no-such-program"),
        ("make gone", "not_run", "not installed"),
        ("make false", "failed", ""),
        ("make nothing", "not_run", "no target nothing"),
        ("npm test", "not_run", "node_modules is missing"),
        ("exit 3", "failed", ""),
    ],
)
def test_the_verdict_of_a_command(
    sandbox: Sandbox, command: str, verdict: str, reason: str
) -> None:
    record = checks.run(sandbox, command, seconds=60)
    assert record.verdict == verdict, record
    assert reason in record.reason
    assert bool(record.reason) == bool(reason)


def test_a_record_holds_the_proof(sandbox: Sandbox) -> None:
    record = checks.run(sandbox, "python -m pytest -q bad", seconds=60)
    assert record.exit_code == 1
    assert "assert 1 == 2" in record.output
    assert record.seconds > 0


def test_a_check_that_hangs_fails(sandbox: Sandbox) -> None:
    record = checks.run(sandbox, "python hang.py", seconds=1)
    assert (record.verdict, record.reason) == ("failed", "took longer than 1 s")


def test_only_the_tail_of_a_long_output_is_kept(sandbox: Sandbox) -> None:
    record = checks.run(sandbox, "seq 100000; echo the end; exit 1", seconds=60)
    assert len(record.output) == checks.OUTPUT_KEPT
    assert record.output.endswith("the end\n")


def test_checks_leave_nothing_in_the_workspace(sandbox: Sandbox) -> None:
    before = sandbox.run(Command(["find", "."])).output
    checks.run(sandbox, "python -m pytest -q good && ruff check good && mypy good", seconds=60)
    assert sandbox.run(Command(["find", "."])).output == before


def test_a_src_layout_is_importable(tmp_path: Path) -> None:
    files = {"src/lib/__init__.py": "", "tests/test_lib.py": "import lib\n\ndef test_a(): pass\n"}
    with real_sandbox(tmp_path, files) as running:
        assert checks.run(running, "python -m pytest -q", seconds=60).verdict == "passed"


@pytest.mark.parametrize(
    ("command", "output", "exit_code", "reason"),
    [
        ("go test ./...", b"dial tcp: lookup proxy.example.org: no such host", 1, "network is off"),
        ("cargo test", b"error: no matching package named `serde` found", 101, "crate serde"),
        ("npm test", b"Error: Cannot find module 'express'", 1, "package express"),
        ("npm test", b'npm error Missing script: "test"', 1, "no script"),
        ("sh run", b"sh: 1: jest: not found", 1, "jest is not installed"),
    ],
)
def test_known_signs_of_a_missing_dependency(
    command: str, output: bytes, exit_code: int, reason: str
) -> None:
    verdict, why = judge(command, CommandResult(exit_code, output), is_ours=lambda name: False)
    assert verdict == "not_run"
    assert reason in why


def test_a_sandbox_limit_is_a_failure() -> None:
    result = CommandResult(137, b"3 passed", stopped="memory")
    assert judge("pytest", result, is_ours=lambda name: False)[0] == "failed"


def test_own_modules_are_told_from_foreign_ones() -> None:
    tree = Tree(("pkg/__init__.py", "src/lib/core.py", "tool.py"))
    assert all(checks.is_own_module(tree, name) for name in ("pkg", "lib", "core", "tool"))
    assert not checks.is_own_module(tree, "requests")


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        ("passed", "passed", False),
        ("failed", "passed", False),
        ("failed", "failed", False),
        ("not_run", "not_run", False),
        ("passed", "failed", True),
        ("passed", "not_run", True),
        ("failed", "not_run", True),
        ("not_run", "failed", True),
    ],
)
def test_hiding_a_failure_is_worse(before: str, after: str, *, worse: bool) -> None:
    assert is_worse(before, after) is worse  # type: ignore[arg-type]  # the table holds verdicts as plain words
