"""Every task type from its first message to its result, over both SDKs and their wire formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aimodels.providers import connect
from aimodels.providers.scripted import call
from aimodels.tests.model_server import ModelServer, serve
from tasks.agent.ports import Handback
from tasks.modes import MODES
from tasks.tests.agent_bench import MemoryBench, make_assignment, play, review_of, write_tree
from tasks.tests.local_sandbox import LocalSandbox

WIRES = ["openai", "anthropic"]
FILES = {
    "calc.py": '"""Sums."""\n\n\ndef add(a, b):\n    return a - b\n',
    "README.md": "# Calculator\n",
}
SAID = {"status": "done", "summary": "Done as it was asked.", "evidence": "I ran it and read it."}


def finish(**values: Any) -> list[dict[str, Any]]:
    return [call("finish", **{**SAID, **values})] * 2


SCRIPTS: dict[str, list[dict[str, Any]]] = {
    "debug": [
        {"text": "I look.", **call("view", path="calc.py")},
        call("bash", command="python3 -c 'import calc; print(calc.add(2, 3))'"),
        call("edit", path="calc.py", old="a - b", new="a + b"),
        *finish(cause="calc.py:5 subtracts.", reproduction="add(2, 3) gave -1"),
    ],
    "implement": [
        call("plan", items=[{"title": "Add mul", "status": "in_progress"}]),
        call(
            "apply_patch",
            patch="*** Begin Patch\n*** Update File: calc.py\n@@\n     return a - b\n+\n+\n"
            "+def mul(a, b):\n+    return a * b\n*** End Patch",
        ),
        *finish(how_to_try="calc.mul(2, 3)", decisions="Named it mul."),
    ],
    "build": [
        call("edit", path="app/main.py", old="", new="print('hello')\n"),
        call("bash", command="python3 app/main.py"),
        *finish(how_to_try="python3 app/main.py"),
    ],
    "documentation": [
        call(
            "edit",
            path="calc.py",
            old="def add(a, b):\n",
            new='def add(a, b):\n    """Return the difference."""\n',
        ),
        call("edit", path="README.md", old="# Calculator\n", new="# Calculator\n\nIt adds.\n"),
        *finish(covered="calc.py, README.md"),
    ],
    "ask": [
        call("search", pattern="def add"),
        *finish(
            answer="`add` subtracts.",
            citations=[{"path": "./calc.py", "line": 4, "end_line": 5, "note": "the body"}],
        ),
    ],
    "architect": [
        call("view", path="."),
        *finish(
            title="Fractions",
            goal="Exact sums.",
            current_state="`calc.py:4` adds floats.",
            design="Use fractions.Fraction.",
            steps=[
                {
                    "title": "Add the type",
                    "description": "A new module, tested.",
                    "files": [{"path": "fractions_.py", "change": "add"}],
                },
                {
                    "title": "Use it",
                    "description": "Call it in add.",
                    "files": [
                        {"path": "calc.py", "change": "modify"},
                        {"path": "fractions_.py", "change": "modify"},
                    ],
                },
            ],
            testing="Run the tests.",
            risks="Speed.",
        ),
    ],
    "pr_review": [
        call("view", path="calc.py"),
        *finish(
            verdict="request_changes",
            findings=[
                {
                    "path": "calc.py",
                    "line": 5,
                    "severity": "high",
                    "category": "correctness",
                    "title": "add subtracts",
                    "failure": "add(2, 3) returns -1 instead of 5, for every caller.",
                    "suggestion": "    return a + b",
                }
            ],
        ),
    ],
    "analysis": [
        call("view", path="calc.py"),
        *finish(
            recommendations=[
                {
                    "title": "Test the sums",
                    "detail": "No test calls add, so the wrong sign went unseen.",
                    "priority": "medium",
                    "paths": ["calc.py"],
                },
                {
                    "title": "Name the operation",
                    "detail": "add subtracts; rename it or mend it.",
                    "priority": "high",
                },
            ]
        ),
    ],
}


def test_there_is_a_script_for_every_task_type() -> None:
    assert set(SCRIPTS) == set(MODES)


def run(tmp_path: Path, wire: str, mode: str) -> tuple[Handback, MemoryBench, list[dict[str, Any]]]:
    root = write_tree(tmp_path / "repo", FILES if mode != "build" else {})
    sandbox = LocalSandbox(root, read_only=MODES[mode].is_read_only)
    bench = MemoryBench(root, sandbox=sandbox)
    tree = {name: content.encode() for name, content in FILES.items()}
    review = review_of({}, tree, {"calc.py": {4, 5}}) if mode == "pr_review" else None
    with serve(SCRIPTS[mode], key="sk-test") as server, closing(_connect(wire, server)) as provider:
        result = play(bench, provider, type=mode, review=review)
        return result, bench, server.bodies()


def _connect(wire: str, server: ModelServer) -> Any:
    return connect(
        wire,
        base_url=server.base_url(wire),
        api_key="sk-test",
        model="m",
        timeout=60,
        max_retries=0,
    )


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def tool_names(body: dict[str, Any]) -> list[str]:
    return [tool.get("name") or tool["function"]["name"] for tool in body["tools"]]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "analysis"])
def test_a_task_of_every_type_is_done(tmp_path: Path, wire: str, mode: str) -> None:
    result, bench, bodies = run(tmp_path, wire, mode)
    assert result.status == "done"
    assert result.summary == SAID["summary"]
    assert result.evidence == SAID["evidence"]
    assert len(bodies) == len(SCRIPTS[mode])
    json.dumps(result.data)
    if MODES[mode].is_read_only:
        assert bench.changed_files() == []
        assert not {"edit", "apply_patch", "plan"} & set(tool_names(bodies[0]))
    else:
        assert [file["path"] for file in result.data["files"]]
        assert {"edit", "apply_patch", "bash"} <= set(tool_names(bodies[0]))


def content_of(tmp_path: Path, mode: str) -> Handback:
    return run(tmp_path, "openai", mode)[0]


def test_debug_tells_the_cause(tmp_path: Path) -> None:
    result = content_of(tmp_path, "debug")
    assert result.data["details"]["cause"] == "calc.py:5 subtracts."
    assert "### Reproduction\nadd(2, 3) gave -1" in result.content


def test_an_answer_comes_with_its_sources(tmp_path: Path) -> None:
    result = content_of(tmp_path, "ask")
    assert result.data["answer"] == "`add` subtracts."
    assert result.data["citations"] == [
        {"path": "calc.py", "line": 4, "end_line": 5, "note": "the body"}
    ]
    assert result.content.endswith("- `calc.py:4-5`: the body")


def test_a_plan_is_a_document_with_numbered_steps(tmp_path: Path) -> None:
    result = content_of(tmp_path, "architect")
    headings = [line for line in result.content.splitlines() if line.startswith("#")]
    assert headings == [
        "# Fractions", "## Goal", "## How it is now", "## Design", "## Steps",
        "### 1. Add the type", "### 2. Use it", "## Testing", "## Risks",
    ]  # fmt: skip
    assert result.data["steps"][1]["files"][0] == {"path": "calc.py", "change": "modify"}


def test_a_review_has_findings_with_fingerprints(tmp_path: Path) -> None:
    result = content_of(tmp_path, "pr_review")
    (finding,) = result.data["findings"]
    assert result.data["verdict"] == "request_changes"
    assert (finding["path"], finding["line"], finding["severity"]) == ("calc.py", 5, "high")
    assert len(finding["fingerprint"]) == 16
    assert "```suggestion\n    return a + b\n```" in result.content


def test_the_change_to_review_is_quoted_as_data(tmp_path: Path) -> None:
    _, _, bodies = run(tmp_path, "openai", "pr_review")
    first = bodies[0]["messages"][1]["content"]
    assert "diff --git a/x b/x" in first
    assert "<diff " in first


def test_an_analysis_joins_measured_figures_and_advice(tmp_path: Path, wire: str) -> None:
    result, bench, bodies = run(tmp_path, wire, "analysis")
    assert result.status == "done"
    assert isinstance(result.data["quality_score"], float)
    assert "ruff" in result.data["tools"]
    assert [item["priority"] for item in result.data["advice"]] == ["high", "medium"]
    assert result.data["recommendations"][0].startswith("Name the operation: ")
    assert "## Recommendations\n### 1. Name the operation (high)" in result.content
    assert "report" not in result.data
    assert bench.changed_files() == []
    assert "have measured the repository" in json.dumps(bodies[0]["messages"])


def test_the_prompt_prefix_is_the_same_for_every_run_of_a_mode(tmp_path: Path) -> None:
    from tasks.agent.budget import AgentLimits
    from tasks.agent.prompts import system_parts

    for mode in MODES.values():
        one = system_parts(mode, AgentLimits(), make_assignment(mode.type, task_id="1", prompt="a"))
        two = system_parts(mode, AgentLimits(), make_assignment(mode.type, task_id="2", prompt="b"))
        assert one == two
        assert "{" not in one[0]
        sections = [line for line in one[0].splitlines() if line.startswith("# ")]
        assert sections == [
            f"# Your task type: {mode.type}", "# When you are done", "# How to work",
            "# Tools and limits", "# Whom to trust", "# What you hand over",
        ]  # fmt: skip
        assert ("read-only" in one[0]) == mode.is_read_only


def test_every_mode_explains_its_required_fields() -> None:
    for mode in MODES.values():
        assert set(mode.required) <= set(mode.fields)
        descriptions: Sequence[str] = [field["description"] for field in mode.fields.values()]
        assert all(len(text) > 8 for text in descriptions)
