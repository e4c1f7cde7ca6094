"""What every analyser shares: findings, what was measured or why not, and the list of files.

Analysers run their tools inside a sandbox, because the files they look at are a stranger's.
A tool that did not run gives ``NotMeasured`` with the reason; a figure of it is null, never 0.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tasks.sandbox.base import WORKSPACE, Command, CommandResult, Sandbox

Severity = Literal["high", "medium", "low"]
SEVERITIES: tuple[Severity, ...] = ("high", "medium", "low")
FINDINGS_KEPT = 200
"""Findings that one tool hands on; ``figures["count"]`` says how many there were."""
FILES_LOOKED_AT = 5000
OUTPUT_KEPT = 32 * 1024**2
OWN_RULES = "1"
"""The version of our own analysers' rules; raise it when their figures change."""

SKIPPED_FOLDERS = frozenset(
    [
        "node_modules",
        "bower_components",
        "vendor",
        "third_party",
        "site-packages",
        ".git",
        ".hg",
        ".tox",
        ".nox",
        ".venv",
        "venv",
        "dist",
        "build",
        "__pycache__",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".eggs",
    ]
)
LANGUAGES = {
    ".py": "Python", ".pyi": "Python", ".js": "JavaScript", ".jsx": "JavaScript",
    ".mjs": "JavaScript", ".cjs": "JavaScript", ".ts": "TypeScript", ".tsx": "TypeScript",
    ".java": "Java", ".kt": "Kotlin", ".go": "Go", ".rs": "Rust", ".c": "C", ".h": "C",
    ".cc": "C++", ".cpp": "C++", ".hpp": "C++", ".cs": "C#", ".rb": "Ruby", ".php": "PHP",
    ".swift": "Swift", ".scala": "Scala", ".lua": "Lua", ".sh": "Shell", ".sql": "SQL",
}  # fmt: skip
TEST_PATH = re.compile(
    r"(^|/)(tests?|testing|__tests__|spec)/|(^|/)(test_[^/]*|conftest)\.py$"
    r"|[._-](test|tests|spec)\.[a-z]+$"
)
UNSAFE_NAME = re.compile(r"[\x00-\x1f\x7f\ufffd]")


class Unmeasured(Exception):
    """The tool could not measure; the message says why, for people."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a tool found. ``line`` counts from 1; ``path`` is relative to the root."""

    path: str
    line: int
    rule: str
    severity: Severity
    message: str
    recommendation: str = ""
    tool: str = ""
    confidence: str = ""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a tool found, worst first, and its figures (JSON values)."""

    tool: str
    version: str
    findings: tuple[Finding, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """A tool that did not run, and why."""

    tool: str
    reason: str


Measurement = Measured | NotMeasured


@dataclass(frozen=True, slots=True)
class Tree:
    """The files of the workspace that are worth a look, sorted by path."""

    paths: tuple[str, ...]

    @property
    def python(self) -> tuple[str, ...]:
        return tuple(path for path in self.paths if path.endswith(".py"))

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(path for path in self.paths if language(path))


def language(path: str) -> str:
    """Return the name of the programming language, or "" for anything else."""
    return LANGUAGES.get(Path(path).suffix.lower(), "")


def is_test(path: str) -> bool:
    return TEST_PATH.search(path) is not None


def list_files(sandbox: Sandbox) -> Tree:
    """List the files that git would keep, without vendored ones. Raises Unmeasured."""
    argv = ["rg", "--no-config", "--files", "--hidden", "--no-require-git", "--no-ignore-global",
            "--null", "--sort", "path"]  # fmt: skip
    result = run_tool(sandbox, argv, seconds=60)
    names = result.output.decode("utf-8", "replace").split("\0")
    return tree_with(name.removeprefix("./") for name in names if name)


def tree_with(paths: Iterable[str]) -> Tree:
    """Return a tree of these files without vendored ones and names that no tool could be given."""
    return Tree(paths=tuple(itertools.islice(filter(_is_ours, paths), FILES_LOOKED_AT)))


def _is_ours(name: str) -> bool:
    if UNSAFE_NAME.search(name) or name.endswith((".min.js", ".min.css")):
        return False
    return SKIPPED_FOLDERS.isdisjoint(name.split("/")[:-1])


def python_files(sandbox: Sandbox) -> tuple[str, ...]:
    """Return the Python files. Raises Unmeasured where there are none."""
    paths = list_files(sandbox).python
    if not paths:
        raise Unmeasured("there are no Python files")
    return paths


def as_arguments(paths: Iterable[str]) -> list[str]:
    """Return the paths so that none can be taken for an option."""
    return [f"./{path}" for path in paths]


def relative(path: str, *, root: str = WORKSPACE) -> str:
    """Return a tool's spelling of a path relative to the root."""
    path = path.removeprefix(f"{root}/")
    while path.startswith("./"):
        path = path[2:]
    return path


def run_tool(
    sandbox: Sandbox,
    argv: Sequence[str],
    *,
    seconds: float,
    stdin: bytes = b"",
    fine: Sequence[int] = (0, 1),
    cwd: str = WORKSPACE,
) -> CommandResult:
    """Run a tool on its own terms: no cache, no bytecode. Raises Unmeasured unless it did well.

    ``fine`` are the exit codes of a tool that did its work, whatever it found.
    """
    command = Command(
        argv=argv, seconds=seconds, stdin=stdin, keep=OUTPUT_KEPT, errors_apart=True, cwd=cwd,
        env={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1", "NO_COLOR": "1"},
    )  # fmt: skip
    result = sandbox.run(command)
    if result.stopped == "timeout":
        raise Unmeasured(f"{argv[0]} took longer than {seconds:.0f} s")
    if result.stopped:
        raise Unmeasured(f"{argv[0]} was stopped: {result.stopped} limit")
    if result.exit_code == 127:
        raise Unmeasured(f"{argv[0]} is not installed")
    if result.exit_code not in fine:
        raise Unmeasured(f"{argv[0]} failed: {last_line(result)}")
    return result


def last_line(result: CommandResult) -> str:
    """Return the last line of what a command said, as the reason it failed."""
    said = (result.errors or result.output).decode("utf-8", "replace").strip().splitlines()
    return said[-1].strip()[:200] if said else f"exit code {result.exit_code}"


def run_script(
    sandbox: Sandbox, name: str, request: Mapping[str, Any], *, seconds: float = 120
) -> Any:
    """Run a script of ``inside/`` with a JSON request and return its JSON answer."""
    argv = ["python3", "-I", "-c", _script(name)]
    stdin = json.dumps(request).encode()
    result = run_tool(sandbox, argv, seconds=seconds, stdin=stdin, fine=(0,))
    return parse_json(result.output, tool=name)


@cache
def _script(name: str) -> str:
    return (Path(__file__).parent / "inside" / f"{name}.py").read_text()


def parse_json(output: bytes, *, tool: str) -> Any:
    """Return a tool's JSON. Raises Unmeasured for anything else."""
    try:
        return json.loads(output)
    except ValueError as error:
        raise Unmeasured(f"{tool} answered with something that is not JSON") from error


def version_of(sandbox: Sandbox, tool: str) -> str:
    """Return the version that the tool names, or "unknown"."""
    result = run_tool(sandbox, [tool, "--version"], seconds=30)
    found = re.search(r"\d+\.\d+(\.\d+)?", result.text)
    return found.group() if found else "unknown"


def measured(
    tool: str, version: str, findings: Iterable[Finding], figures: Mapping[str, Any] | None = None
) -> Measured:
    """Build a measurement: findings worst first and bounded, the true counts in the figures."""
    everything = sorted(findings, key=order)
    kept = tuple(replace(finding, tool=tool) for finding in everything[:FINDINGS_KEPT])
    levels = Counter(finding.severity for finding in everything)
    counts = {"count": len(everything)} | {level: levels[level] for level in SEVERITIES}
    return Measured(tool, version, kept, {**counts, **(figures or {})})


def order(finding: Finding) -> tuple[int, str, int, str]:
    """Sort key: worst first, then by place."""
    return (SEVERITIES.index(finding.severity), finding.path, finding.line, finding.rule)


def attempt(tool: str, measure: Callable[[], Measured]) -> Measurement:
    """Measure; a tool that cannot, or answers in a shape it never had, gives the reason."""
    try:
        return measure()
    except Unmeasured as reason:
        return NotMeasured(tool, str(reason))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return NotMeasured(tool, f"{tool} answered in an unknown shape")


def to_json(measurement: Measurement) -> str:
    """Return a measurement as text that ``from_json`` reads back unchanged."""
    return json.dumps(asdict(measurement), sort_keys=True)


def from_json(text: str) -> Measurement:
    data = json.loads(text)
    if "reason" in data:
        return NotMeasured(**data)
    data["findings"] = tuple(Finding(**finding) for finding in data["findings"])
    return Measured(**data)
