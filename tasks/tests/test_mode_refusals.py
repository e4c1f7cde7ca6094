"""A finish that the repository contradicts is refused, in words that help; a true one is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.modes import MODES
from tasks.modes.pr_review import with_suggestion
from tasks.tests.agent_bench import MemoryBench, make_assignment, review_of, write_tree

FILES = {
    "calc.py": "def add(a, b):\n    return a - b\n\n\ndef sub(a, b):\n    return a - b\n",
    "data.json": '{"a": 1}\n',
    "docs/index.md": "# Docs\n",
    "app.js": "// adds\nfunction add(a, b) { return a + b; }\n",
}
SAID = {"status": "done", "summary": "It is done now.", "evidence": "seen"}


@pytest.fixture
def bench(tmp_path: Path) -> MemoryBench:
    return MemoryBench(write_tree(tmp_path / "repo", FILES))


def refusal(mode: str, bench: MemoryBench, **arguments: Any) -> str | None:
    tree = {name: content.encode() for name, content in FILES.items()}
    review = review_of({}, tree, {"calc.py": {1, 2}, "data.json": {1}})
    assignment = make_assignment(mode, review=review)
    return MODES[mode].refuse({**SAID, **arguments}, bench, assignment)


# --- ask ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("citation", "words"),
    [
        ({"path": "nope.py", "line": 1}, "no such file"),
        ({"path": "calc.py", "line": 7}, "only 6 lines"),
        ({"path": "calc.py", "line": 2, "end_line": 9}, "only 6 lines"),
        ({"path": "calc.py", "line": 4, "end_line": 3}, "before the first"),
        ({"path": "../calc.py", "line": 1}, "no such file"),
        ({"path": "/etc/passwd", "line": 1}, "no such file"),
    ],
)
def test_a_citation_must_exist(bench: MemoryBench, citation: dict[str, Any], words: str) -> None:
    assert words in (refusal("ask", bench, citations=[citation]) or "")


@pytest.mark.parametrize("path", ["calc.py", "./calc.py", "/workspace/calc.py"])
def test_a_citation_that_exists_stands(bench: MemoryBench, path: str) -> None:
    assert refusal("ask", bench, citations=[{"path": path, "line": 6}]) is None


def test_an_answer_without_a_citation_is_refused_but_an_honest_blocked_is_not(
    bench: MemoryBench,
) -> None:
    assert "cites no place" in (refusal("ask", bench, citations=[]) or "")
    assert refusal("ask", bench, status="blocked") is None


# --- documentation -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("calc.py", '"""Sums."""\n\n' + FILES["calc.py"]),
        (
            "calc.py",
            FILES["calc.py"].replace("def add(a, b):\n", 'def add(a, b):\n    """Add."""\n'),
        ),
        ("calc.py", "# A comment.\n" + FILES["calc.py"]),
        ("docs/index.md", "# Documentation\n"),
        ("docs/new.rst", "New\n===\n"),
        ("docs/picture.png", "png"),
        ("CHANGELOG", "- x\n"),
        ("app.js", "/**\n * Adds.\n */\nfunction add(a, b) { return a + b; } // sum\n"),
    ],
)
def test_documents_docstrings_and_comments_may_change(
    bench: MemoryBench, path: str, content: str
) -> None:
    write_tree(bench.root, {path: content})
    assert refusal("documentation", bench) is None


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("calc.py", FILES["calc.py"].replace("a - b", "a + b", 1), "its code has changed"),
        ("calc.py", FILES["calc.py"].replace("return a - b", "'''x'''", 1), "its code has changed"),
        ("calc.py", FILES["calc.py"] + "X = 1\n", "its code has changed"),
        ("calc.py", "def broken(:\n", "does not parse"),
        ("new.py", "X = 1\n", "its code has changed"),
        ("data.json", '{"a": 2}\n', "no document"),
        ("requirements.txt", "evil\n", "no document"),
        ("install", "#!/bin/sh\n", "no document"),
        ("app.js", "// adds\nfunction add(a, b) { return a - b; }\n", "its code has changed"),
        ("run.sh", "#!/bin/sh\necho x\n", "its code has changed"),
        ("calc.py", None, "was deleted"),
    ],
)
def test_code_may_not_change_in_a_documentation_task(
    bench: MemoryBench, path: str, content: str | None, words: str
) -> None:
    if content is None:
        (bench.root / path).unlink()
    else:
        write_tree(bench.root, {path: content})
    found = refusal("documentation", bench) or ""
    assert words in found
    assert path in found


def test_a_stub_may_get_a_docstring_in_place_of_its_pass(tmp_path: Path) -> None:
    bench = MemoryBench(write_tree(tmp_path / "repo", {"a.py": "class A:\n    pass\n"}))
    write_tree(bench.root, {"a.py": 'class A:\n    """An A."""\n'})
    assert refusal("documentation", bench) is None


# --- architect ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([("calc.py", "modify"), ("new.py", "add"), ("new.py", "modify")], None),
        ([("calc.py", "delete"), ("calc.py", "add")], None),
        ([("nope.py", "modify")], "there is no nope.py"),
        ([("nope.py", "delete")], "there is no nope.py"),
        ([("calc.py", "add")], "exists already"),
        ([("calc.py", "delete"), ("calc.py", "modify")], "there is no calc.py"),
    ],
)
def test_a_plan_names_files_as_they_are(
    bench: MemoryBench, files: list[tuple[str, str]], words: str | None
) -> None:
    step = {"title": "t", "description": "d"}
    steps = [{**step, "files": [{"path": path, "change": change}]} for path, change in files]
    found = refusal("architect", bench, steps=steps)
    assert found is None if words is None else words in (found or "")


# --- pr_review ---------------------------------------------------------------------------------

FINDING = {
    "path": "calc.py",
    "line": 2,
    "severity": "high",
    "category": "correctness",
    "title": "add subtracts",
    "failure": "add(2, 3) returns -1 instead of 5 for every caller.",
}


def reviewed(bench: MemoryBench, verdict: str = "request_changes", **values: Any) -> str:
    findings = [{**FINDING, **values}]
    return refusal("pr_review", bench, verdict=verdict, findings=findings) or ""


def test_a_finding_on_a_changed_line_stands(bench: MemoryBench) -> None:
    assert reviewed(bench) == ""
    assert reviewed(bench, suggestion="    return a + b") == ""
    assert refusal("pr_review", bench, verdict="approve", findings=[]) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"line": 6}, "nearest changed lines: [1, 2]"),
        ({"path": "app.js", "line": 1}, "not part of the change"),
        ({"failure": "might be slow"}, "with which input"),
        ({"suggestion": "    return (a + b"}, "does not parse"),
        ({"suggestion": "    return a - b"}, "changes nothing"),
        ({"end_line": 99, "suggestion": "x"}, "at most 50 lines"),
        ({"end_line": 40, "suggestion": "x"}, "do not exist"),
        ({"path": "data.json", "line": 1, "suggestion": '{"a": }'}, "does not parse"),
        ({"end_line": 1}, "at most 50 lines"),
    ],
)
def test_a_finding_that_cannot_stand_is_refused(
    bench: MemoryBench, values: dict[str, Any], words: str
) -> None:
    assert words in reviewed(bench, **values)


@pytest.mark.parametrize(
    ("verdict", "severity", "is_refused"),
    [
        ("approve", "high", True),
        ("approve", "low", False),
        ("request_changes", "low", True),
        ("request_changes", "medium", False),
        ("comment", "low", False),
    ],
)
def test_the_verdict_fits_the_findings(
    bench: MemoryBench, verdict: str, severity: str, is_refused: bool
) -> None:
    assert bool(reviewed(bench, verdict, severity=severity)) == is_refused


def test_a_suggestion_replaces_its_lines_in_the_files_own_endings() -> None:
    assert with_suggestion("a\r\nb\r\nc\r\n", "B\nBB", (2, 2)) == "a\r\nB\r\nBB\r\nc\r\n"
    assert with_suggestion("a\nb\nc\n", "", (2, 3)) == "a\n"


def test_a_fingerprint_stays_when_the_line_moves(tmp_path: Path) -> None:
    def made(root: Path, text: str, line: int) -> str:
        bench = MemoryBench(write_tree(root, {"calc.py": text}))
        arguments = {**SAID, "verdict": "comment", "findings": [{**FINDING, "line": line}]}
        mode = MODES["pr_review"]
        assignment = make_assignment("pr_review")
        material = mode.material(assignment, bench)
        result = mode.make(arguments, bench, assignment, material)
        return str(result.data["findings"][0]["fingerprint"])

    text = FILES["calc.py"]
    first = made(tmp_path / "a", text, 2)
    assert made(tmp_path / "b", "\n\n" + text.replace("    return", "      return"), 4) == first
    assert made(tmp_path / "c", text.replace("a - b", "b - a"), 2) != first


# --- analysis and changes ----------------------------------------------------------------------


def test_advice_names_files_that_exist(bench: MemoryBench) -> None:
    advice = {"title": "Test it", "detail": "There is no test of add.", "priority": "low"}
    assert refusal("analysis", bench, recommendations=[{**advice, "paths": ["calc.py"]}]) is None
    found = refusal("analysis", bench, recommendations=[{**advice, "paths": ["nope.py"]}])
    assert "nope.py" in (found or "")


@pytest.mark.parametrize("mode", ["debug", "implement", "build", "documentation"])
def test_a_status_must_fit_the_difference(bench: MemoryBench, mode: str) -> None:
    assert "No file differs" in (refusal(mode, bench) or "")
    assert refusal(mode, bench, status="no_change_needed") is None
    assert refusal(mode, bench, status="blocked") is None
    write_tree(bench.root, {"docs/index.md": "# New\n"})
    assert refusal(mode, bench) is None
    assert "docs/index.md" in (refusal(mode, bench, status="no_change_needed") or "")
    assert refusal(mode, bench, status="blocked") is None
