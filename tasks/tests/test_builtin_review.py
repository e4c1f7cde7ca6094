"""Review by the built-in engine: only on changed lines, at most five, each with a failure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.agent.ports import Handback
from tasks.analysis.ruff import Diagnosis
from tasks.builtin import run_builtin
from tasks.builtin.review import fingerprint
from tasks.builtin.suggestions import suggest
from tasks.sandbox.base import Sandbox
from tasks.tests.memory_bench import MemoryBench
from tasks.tests.trees import (
    Files,
    as_bytes,
    assign,
    local_sandbox,
    real_sandbox,
    review_of,
    sample_files,
)

OLD = "import os\n\n\ndef first(a, seen=[]):\n    return a is 'x'\n"
NEW = OLD + "\n\ndef second(a):\n    return a is 'second'\n"


def edit(row: int, start: int, end: int, content: str) -> dict[str, Any]:
    """Return a fix of ruff's for columns of one row."""
    place = {"location": {"row": row, "column": start}, "end_location": {"row": row, "column": end}}
    return {"applicability": "safe", "edits": [{"content": content, **place}]}


def review_in(sandbox: Sandbox, before: Files, after: Files) -> tuple[Handback, MemoryBench]:
    base = {path: as_bytes(content) for path, content in before.items()}
    bench = MemoryBench(sandbox, base=base)
    return run_builtin(assign("pr_review", review=review_of(before, after)), bench), bench


def review(tmp_path: Path, before: Files, after: Files) -> Handback:
    return review_in(local_sandbox(tmp_path, after), before, after)[0]


def places(done: Handback) -> list[tuple[str, int, str]]:
    return [(one["path"], one["line"], one["rule"]) for one in done.data["findings"]]


def test_the_branch_of_the_sample_gets_its_findings_in_the_real_sandbox(tmp_path: Path) -> None:
    before, after = sample_files(tmp_path), sample_files(tmp_path, "rates")
    with real_sandbox(tmp_path, after, read_only=True) as sandbox:
        done, bench = review_in(sandbox, before, after)
    assert places(done) == [
        ("ledgerly/rates.py", 14, "B006"),
        ("ledgerly/rates.py", 24, "operator"),
    ]
    assert done.data["verdict"] == "request_changes"
    assert "every later call" in done.data["findings"][0]["failure"]
    assert done.data["not_measured"] == {}
    assert not bench.journal.changing


def test_what_was_there_before_is_not_reported(tmp_path: Path) -> None:
    done = review(tmp_path, {"a.py": OLD}, {"a.py": NEW})
    assert places(done) == [("a.py", 9, "F632")]
    control = review(tmp_path / "control", {}, {"a.py": NEW})
    assert {line for _, line, _ in places(control)} == {4, 5, 9}


def test_a_changed_line_with_an_old_fault_elsewhere_is_fine(tmp_path: Path) -> None:
    done = review(tmp_path, {"a.py": OLD}, {"a.py": OLD.replace("import os", "import re")})
    assert places(done) == []
    assert done.data["verdict"] == "approve"


def test_an_old_fault_that_only_moved_is_not_new(tmp_path: Path) -> None:
    moved = "LIMIT = 3\n\n\n" + OLD
    sandbox = local_sandbox(tmp_path, {"a.py": moved})
    asked = review_of({}, {"a.py": moved})
    bench = MemoryBench(sandbox, base={"a.py": OLD.encode()})
    done = run_builtin(assign("pr_review", review=asked), bench)
    assert places(done) == []


def test_style_is_no_finding(tmp_path: Path) -> None:
    after = {"a.py": "import os\nx = 1;\ndef F(l):\n    unused = 2\n    return l\n"}
    assert places(review(tmp_path, {}, after)) == []


def test_at_most_five_findings_worst_first(tmp_path: Path) -> None:
    lines = [f"def f{i}(a, b={{}}):\n    return a\n" for i in range(9)]
    done = review(tmp_path, {}, {"a.py": "\n\n".join(lines)})
    assert len(done.data["findings"]) == 5


def test_one_line_has_one_finding(tmp_path: Path) -> None:
    done = review(tmp_path, {}, {"a.py": "def f():\n    return undefined_name\n"})
    assert places(done) == [("a.py", 2, "F821")]


def test_security_credentials_and_conflicts_are_seen(tmp_path: Path) -> None:
    after = {
        "a.py": "import subprocess\n\n\ndef run(x):\n    subprocess.call('ls ' + x, shell=True)\n",
        "config.yml": "api_key: 'Zx81kQ0pLm93Vb27'\n",
        "notes.txt": "<<<<<<< ours\na\n=======\nb\n>>>>>>> theirs\n",
    }
    done = review(tmp_path, {}, after)
    assert places(done) == [
        ("a.py", 5, "B602"),
        ("config.yml", 1, "assigned-secret"),
        ("notes.txt", 1, "merge-conflict"),
        ("notes.txt", 5, "merge-conflict"),
    ]
    assert "Zx81kQ0pLm93Vb27" not in str(done)


def test_a_safe_fix_of_one_line_is_suggested(tmp_path: Path) -> None:
    done = review(tmp_path, {"a.py": OLD}, {"a.py": NEW})
    assert done.data["findings"][0]["suggestion"] == "    return a == 'second'"


def test_the_fingerprint_survives_a_move_but_no_edit(tmp_path: Path) -> None:
    first = review(tmp_path / "1", {}, {"a.py": "def f(a, b={}):\n    return a\n"})
    moved = review(tmp_path / "2", {}, {"a.py": "X = 1\n\n\ndef f(a, b={}):\n    return a\n"})
    edited = review(tmp_path / "3", {}, {"a.py": "def f(a, c={}):\n    return a\n"})
    prints = [one.data["findings"][0]["fingerprint"] for one in (first, moved, edited)]
    assert prints[0] == prints[1] != prints[2]
    assert fingerprint("a", "b", "c") != fingerprint("a", "bc", "")


def test_a_change_without_python_says_what_was_not_looked_at(tmp_path: Path) -> None:
    done = review(tmp_path, {}, {"README.md": "# Hello\n"})
    assert done.data["verdict"] == "approve"
    assert done.data["not_measured"]["ruff"] == "no Python file was changed"


def test_deleted_files_are_passed_over(tmp_path: Path) -> None:
    sandbox = local_sandbox(tmp_path, {"a.py": "x = 1\n"})
    asked = review_of({}, {"a.py": "x = 1\n", "gone.py": "y = 1\n"})
    done = run_builtin(assign("pr_review", review=asked), MemoryBench(sandbox, base={}))
    assert done.data["verdict"] == "approve"


def test_without_a_change_there_is_nothing_to_review(tmp_path: Path) -> None:
    bench = MemoryBench(local_sandbox(tmp_path, {}))
    assert run_builtin(assign("pr_review"), bench).status == "blocked"


def test_the_same_change_gets_the_same_review(tmp_path: Path) -> None:
    assert review(tmp_path / "1", {}, {"a.py": NEW}) == review(tmp_path / "2", {}, {"a.py": NEW})


@pytest.mark.parametrize(
    ("content", "diagnosis"),
    [
        (b"x = \xff\n", Diagnosis("a.py", 1, "F632", "", edit(1, 1, 2, "y"))),
        (b"x = 1\n", Diagnosis("a.py", 1, "F632", "")),
        (b"x = 1\n", Diagnosis("a.py", 7, "F632", "", edit(7, 1, 2, "y"))),
        (b"x = 1\n", Diagnosis("a.py", 1, "F632", "", edit(2, 1, 2, "y"))),
        (b"x = 1\n", Diagnosis("a.py", 1, "F632", "", edit(1, 1, 2, "x"))),
        (b"x = 1\n", Diagnosis("a.py", 1, "F632", "", edit(1, 1, 2, "def ("))),
    ],
)
def test_a_fix_that_does_not_fit_one_line_is_not_suggested(
    tmp_path: Path, content: bytes, diagnosis: Diagnosis
) -> None:
    sandbox = local_sandbox(tmp_path, {})
    assert suggest(sandbox, content, diagnosis) == ""
    control = Diagnosis("a.py", 1, "F632", "", edit(1, 1, 2, "y"))
    assert suggest(sandbox, b"x = 1\n", control) == "y = 1"
