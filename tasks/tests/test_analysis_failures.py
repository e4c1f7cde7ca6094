"""An analyser whose tool is missing, hangs or answers nonsense says so; it never gives a zero."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.analysis import bandit, docstrings, duplication, lizard, mypy, ruff, secrets, size
from tasks.analysis.base import Finding, Measured, Measurement, NotMeasured, from_json, to_json
from tasks.sandbox.base import Command, CommandResult, Sandbox
from tasks.tests.local_sandbox import LocalSandbox
from tasks.tests.trees import local_sandbox

Measure = Callable[[Sandbox], Measurement]
FILES = {"a.py": "import os\n", "b.py": "x = 1\n"}
TOOLS: dict[str, Measure] = {
    "ruff": ruff.measure,
    "bandit": bandit.measure,
    "lizard": lizard.measure,
    "mypy": mypy.measure,
}
SCRIPTS: dict[str, Measure] = {
    "size": size.measure,
    "duplication": duplication.measure,
    "secrets": secrets.measure,
    "docstrings": docstrings.measure,
}


class Answering(LocalSandbox):
    """Answers for one program with a given result, and runs the rest."""

    def __init__(self, folder: Path, program: str, answer: CommandResult) -> None:
        super().__init__(folder)
        self.program = program
        self.answer = answer

    def run(
        self, command: Command, *, on_output: Callable[[bytes], None] | None = None
    ) -> CommandResult:
        if command.argv[0] == self.program:
            return self.answer
        return super().run(command, on_output=on_output)


def answering(folder: Path, program: str, answer: CommandResult) -> Answering:
    return Answering(local_sandbox(folder, FILES).folder, program, answer)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_works_is_the_control(tmp_path: Path, tool: str) -> None:
    assert isinstance(TOOLS[tool](local_sandbox(tmp_path, FILES)), Measured)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_missing_tool_is_not_measured(tmp_path: Path, tool: str) -> None:
    sandbox = local_sandbox(tmp_path, FILES, missing=(tool,))
    assert TOOLS[tool](sandbox) == NotMeasured(tool, f"{tool} is not installed")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_sandbox_without_python_measures_nothing(tmp_path: Path, script: str) -> None:
    sandbox = local_sandbox(tmp_path, FILES, missing=("python3",))
    assert SCRIPTS[script](sandbox) == NotMeasured(script, "python3 is not installed")


def test_without_ripgrep_there_is_no_list_of_files(tmp_path: Path) -> None:
    sandbox = local_sandbox(tmp_path, FILES, missing=("rg",))
    assert ruff.measure(sandbox) == NotMeasured("ruff", "rg is not installed")


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_hangs_is_not_measured(tmp_path: Path, tool: str) -> None:
    answer = CommandResult(137, b"", seconds=9, stopped="timeout")
    result = TOOLS[tool](answering(tmp_path, tool, answer))
    assert isinstance(result, NotMeasured)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_crashes_gives_its_last_words(tmp_path: Path, tool: str) -> None:
    answer = CommandResult(70, b"", b"Traceback\nOops: it broke\n")
    result = TOOLS[tool](answering(tmp_path, tool, answer))
    assert result == NotMeasured(tool, f"{tool} failed: Oops: it broke")


@pytest.mark.parametrize("output", [b"{]", b"[1, 2]", b'{"other": 1}', b"\xff\xfe", b'"text"'])
@pytest.mark.parametrize("tool", ["ruff", "bandit"])
def test_malformed_output_is_not_measured(tmp_path: Path, tool: str, output: bytes) -> None:
    result = TOOLS[tool](answering(tmp_path, tool, CommandResult(1, output)))
    assert isinstance(result, NotMeasured)


@pytest.mark.parametrize("output", [b'{"severity": "error"}', b'{"severity": "error", "line": []}'])
def test_malformed_type_errors_are_not_measured(tmp_path: Path, output: bytes) -> None:
    result = mypy.measure(answering(tmp_path, "mypy", CommandResult(1, output)))
    assert isinstance(result, NotMeasured)


def test_malformed_complexity_is_not_measured(tmp_path: Path) -> None:
    row = b'x,y,z,1,2,"f@1","a.py","f","f()",1,2\n'
    result = lizard.measure(answering(tmp_path, "lizard", CommandResult(0, row)))
    assert isinstance(result, NotMeasured)


def test_mypy_gives_up_when_it_names_no_culprit(tmp_path: Path) -> None:
    answer = CommandResult(2, b"", b"error: it is full\n")
    result = mypy.measure(answering(tmp_path, "mypy", answer))
    assert result == NotMeasured("mypy", "mypy failed: error: it is full")


def test_findings_are_bounded_and_counted(tmp_path: Path) -> None:
    lines = "".join(f"x{i} = y{i}\n" for i in range(500))
    result = ruff.measure(local_sandbox(tmp_path, {"a.py": lines}))
    assert isinstance(result, Measured)
    assert (len(result.findings), result.figures["count"], result.figures["high"]) == (
        200,
        500,
        500,
    )


def test_hostile_names_and_links_are_left_alone(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text("import sys\n")
    sandbox = local_sandbox(tmp_path, {"--help.py": "import os\n", "new\nline.py": "import re\n"})
    (sandbox.folder / "link.py").symlink_to(secret)
    result = ruff.measure(sandbox)
    assert isinstance(result, Measured)
    assert [(one.path, one.rule) for one in result.findings] == [("--help.py", "F401")]


@pytest.mark.parametrize(
    "measurement",
    [
        NotMeasured("ruff", "it is not installed"),
        Measured(
            "ruff",
            "1.0",
            (Finding("a.py", 1, "F401", "low", "unused"),),
            {"count": 1, "part": None},
        ),
    ],
)
def test_a_measurement_survives_the_journal(measurement: Measurement) -> None:
    assert from_json(to_json(measurement)) == measurement
