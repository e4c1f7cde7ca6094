"""Ask by the built-in engine: citations are real lines, and nothing is made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.agent.ports import Handback
from tasks.builtin import run_builtin
from tasks.builtin.words import Question
from tasks.sandbox.base import Sandbox
from tasks.tests.memory_bench import MemoryBench
from tasks.tests.trees import assign, local_sandbox, real_sandbox, sample_files

Place = tuple[str, int]


def ask(sandbox: Sandbox, prompt: str) -> tuple[Handback, MemoryBench]:
    bench = MemoryBench(sandbox)
    return run_builtin(assign("ask", prompt), bench), bench


def cited(done: Handback) -> list[Place]:
    return [(one["path"], one["line"]) for one in done.data["citations"]]


def test_a_definition_and_its_uses_are_cited_in_the_real_sandbox(tmp_path: Path) -> None:
    files = sample_files(tmp_path)
    with real_sandbox(tmp_path, files, read_only=True) as sandbox:
        done, bench = ask(sandbox, "Where is `parse_line` defined and what uses it?")
    assert done.status == "done"
    assert done.summary == "parse_line is defined at ledgerly/parser.py:15; used in 3 places."
    assert ("ledgerly/parser.py", 32) in cited(done)
    assert not bench.journal.changing


@pytest.mark.parametrize(
    "prompt",
    ["Where is Invoice.total used?", "How do we round amounts of money?", "who calls rate_for()"],
)
def test_every_citation_is_a_real_line(tmp_path: Path, prompt: str) -> None:
    files = sample_files(tmp_path)
    done, _ = ask(local_sandbox(tmp_path, files), prompt)
    assert done.data["citations"]
    for one in done.data["citations"]:
        line = files[one["path"]].decode().splitlines()[one["line"] - 1]
        assert one["text"] == line.strip()[:200]
    assert len(set(cited(done))) == len(cited(done))


def test_a_question_in_plain_words_finds_what_fits(tmp_path: Path) -> None:
    done, _ = ask(local_sandbox(tmp_path, sample_files(tmp_path)), "How do we round amounts?")
    assert cited(done)[0] == ("ledgerly/money.py", 32)
    assert done.data["names"] == []


def test_a_plain_word_that_is_a_name_is_taken_for_it(tmp_path: Path) -> None:
    done, _ = ask(local_sandbox(tmp_path, sample_files(tmp_path)), "How are amounts rounded?")
    assert done.data["names"] == ["rounded"]
    assert cited(done)[0] == ("ledgerly/money.py", 32)


def test_names_outside_python_are_found_by_word(tmp_path: Path) -> None:
    files = {"web/app.js": "function pickOne() {}\n\npickOne()\n", "README.md": "pickOneMore\n"}
    done, _ = ask(local_sandbox(tmp_path, files), "Where is pickOne?")
    assert cited(done) == [("web/app.js", 1), ("web/app.js", 3)]


def test_what_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    sandbox = local_sandbox(tmp_path, sample_files(tmp_path))
    done, _ = ask(sandbox, "Where is the `KubernetesOperator`?")
    assert done.status == "done"
    assert done.data["citations"] == []
    assert done.summary == "Nothing in the repository fits KubernetesOperator."


@pytest.mark.parametrize("prompt", ["", "?", "what is this", "-e --files `--help`", "`" * 50])
def test_odd_questions_are_answered(tmp_path: Path, prompt: str) -> None:
    done, _ = ask(local_sandbox(tmp_path, {"a.py": "x = 1\n"}), prompt)
    assert done.status == "done"
    assert done.data["citations"] == []


def test_without_ripgrep_the_answer_is_blocked(tmp_path: Path) -> None:
    bench = MemoryBench(local_sandbox(tmp_path, {}, missing=("rg",)), base={})
    done = run_builtin(assign("ask", "Where is x?"), bench)
    assert done.status == "blocked"


def test_the_same_question_gets_the_same_answer(tmp_path: Path) -> None:
    files = sample_files(tmp_path)
    first, _ = ask(local_sandbox(tmp_path / "1", files), "Where is total used?")
    second, _ = ask(local_sandbox(tmp_path / "2", files), "Where is total used?")
    assert first == second


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("Where is `a.b.c` and foo_bar?", ("a.b.c", "foo_bar")),
        ("What does parse() do to HttpClient?", ("parse", "HttpClient")),
        ("Where is __init__ called", ()),
        ("How does it work", ()),
    ],
)
def test_names_are_told_from_words(prompt: str, names: tuple[str, ...]) -> None:
    assert Question.of(prompt).names == names


@pytest.mark.parametrize("kind", ["architect", "build", "implement", "nonsense"])
def test_what_the_engine_cannot_do_is_blocked(tmp_path: Path, kind: str) -> None:
    done = run_builtin(assign(kind), MemoryBench(local_sandbox(tmp_path, {})))
    assert done.status == "blocked"
    assert kind in done.summary
