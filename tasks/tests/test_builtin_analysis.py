"""Analysis by the built-in engine: figures from real tools, null where none ran."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tasks.agent.ports import Handback
from tasks.analysis import markdown
from tasks.analysis.report import ANALYSERS, measure_all
from tasks.builtin import run_builtin
from tasks.sandbox.base import Sandbox
from tasks.tests.memory_bench import MemoryBench
from tasks.tests.trees import assign, local_sandbox, real_sandbox, sample_files


def analyse(
    sandbox: Sandbox, *, parameters: dict[str, object] | None = None
) -> tuple[Handback, MemoryBench]:
    bench = MemoryBench(sandbox)
    return run_builtin(assign("analysis", parameters=parameters or {}), bench), bench


def package_files(name: str) -> dict[str, bytes]:
    """Return the source of an installed package that no one here wrote."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    return {f"{name}/{file.relative_to(root)}": file.read_bytes() for file in root.glob("*.py")}


def test_the_sample_is_measured_in_the_real_sandbox(tmp_path: Path) -> None:
    with real_sandbox(tmp_path, sample_files(tmp_path), read_only=True) as sandbox:
        done, bench = analyse(sandbox)
    data = done.data
    assert done.status == "done"
    assert [(one["path"], one["line"], one["severity"]) for one in data["security_issues"]] == [
        ("ledgerly/mailer.py", 13, "high"),
        ("ledgerly/storage.py", 26, "medium"),
    ]
    assert (data["code_smells"], data["type_errors"], data["coverage_percent"]) == (3, 1, 77.6)
    assert 0 < data["quality_score"] < 10
    assert data["complexity"][0]["name"] == "summarise"
    assert data["not_measured"] == {}
    assert set(data["tools"]) == {one.name for one in ANALYSERS}
    assert [name for name, _, _ in bench.journal.steps] == [one.name for one in ANALYSERS]
    assert not bench.journal.changing
    assert bench.progress == sorted(bench.progress)
    assert "Tz7-quiet" not in json.dumps(data) + done.content


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Handback:
    folder = tmp_path_factory.mktemp("sample")
    return analyse(local_sandbox(folder, sample_files(folder)))[0]


def test_another_repository_has_other_findings(tmp_path: Path, sample: Handback) -> None:
    other, _ = analyse(local_sandbox(tmp_path, package_files("h11")))
    assert other.data["not_measured"] == {"coverage": "there are no Python tests"}
    assert other.data["coverage_percent"] is None
    assert other.data["complexity"][0]["name"] == "_process_event"
    places = {(one["path"], one["line"]) for one in other.data["findings"]}
    assert places
    assert not places & {(one["path"], one["line"]) for one in sample.data["findings"]}


def test_the_same_repository_gives_the_same_report(tmp_path: Path, sample: Handback) -> None:
    again, _ = analyse(local_sandbox(tmp_path, sample_files(tmp_path)))
    assert again == sample


def test_a_resumed_analysis_measures_only_the_rest(tmp_path: Path) -> None:
    files = {"a.py": "import os\n"}
    first, whole = analyse(local_sandbox(tmp_path, files))
    again = MemoryBench(local_sandbox(tmp_path, files), replay=whole.journal.steps[:5])
    assert run_builtin(assign("analysis"), again) == first
    assert again.journal.effects == len(ANALYSERS) - 5


def test_only_the_asked_types_are_measured(tmp_path: Path) -> None:
    parameters: dict[str, object] = {"analysis_types": ["types"]}
    done, bench = analyse(
        local_sandbox(tmp_path, {"a.py": "x: int = 'a'\n"}), parameters=parameters
    )
    assert [name for name, _, _ in bench.journal.steps] == ["size", "mypy"]
    assert done.data["type_errors"] == 1
    assert done.data["not_measured"]["bandit"] == "not asked for"
    for field in ("quality_score", "code_smells", "coverage_percent", "complexity", "duplication"):
        assert done.data[field] is None


def test_without_tools_every_figure_is_null(tmp_path: Path) -> None:
    bench = MemoryBench(local_sandbox(tmp_path, {"a.py": ""}, missing=("rg",)), base={})
    done = run_builtin(assign("analysis"), bench)
    for field in ("quality_score", "code_smells", "type_errors", "files", "lines"):
        assert done.data[field] is None
    assert done.data["security_issues"] == []
    assert done.data["not_measured"]["secrets"] == "rg is not installed"
    assert "| Security issues | not measured |" in done.content


def test_a_repository_in_another_language_is_measured_as_far_as_it_goes(tmp_path: Path) -> None:
    files = {"main.go": "package main\n\nfunc add(a int, b int) int {\n\treturn a + b\n}\n"}
    done, _ = analyse(local_sandbox(tmp_path, files))
    assert done.data["functions"] == 1
    assert done.data["quality_score"] == 10
    assert done.data["code_smells"] is None


def test_an_empty_repository_is_no_error(tmp_path: Path) -> None:
    done, _ = analyse(local_sandbox(tmp_path, {}))
    assert done.data["quality_score"] is None
    assert done.data["not_measured"]["size"]


def test_the_whole_pass_needs_no_journal(tmp_path: Path) -> None:
    report = measure_all(local_sandbox(tmp_path, {"a.py": "import os\n"}))
    assert report.figure("ruff", "count") == 1


def test_a_repository_writes_no_markup_into_the_report() -> None:
    assert markdown.text("a|b <script> [x](y) *c* #d") == r"a\|b &lt;script> \[x\](y) \*c\* \#d"
    assert markdown.text("use `a|b` here") == r"use `a\|b` here"
    assert markdown.text("one ` mark") == "one ' mark"
    assert markdown.code("a`b\n| c") == r"`a'b \| c`"
