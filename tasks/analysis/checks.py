"""Which commands check a repository, and running one of them for a record."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tasks.analysis.base import Tree, Unmeasured, list_files, tree_with
from tasks.analysis.verdicts import ESCAPES, Verdict, judge
from tasks.sandbox.base import WORKSPACE, Command, Sandbox

OUTPUT_KEPT = 20_000
SECONDS = 600
READ_AT_MOST = 1_000_000
TESTS_LOOKED_AT = 30
BY_FILE = {
    "go.mod": "go test ./...",
    "Cargo.toml": "cargo test --offline",
    "pom.xml": "mvn --quiet --offline test",
}
# Whatever a tool would leave in the workspace goes elsewhere: it must not reach a checkpoint.
ENVIRONMENT = {
    "CI": "1",
    "NO_COLOR": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    "PYTEST_ADDOPTS": "-o cache_dir=/tmp/pytest_cache",
    "MYPY_CACHE_DIR": "/tmp/mypy_cache",  # noqa: S108 - inside the sandbox, whose /tmp is its own
    "RUFF_CACHE_DIR": "/tmp/ruff_cache",  # noqa: S108 - as above
    "COVERAGE_FILE": "/tmp/coverage",  # noqa: S108 - as above
    "CARGO_TARGET_DIR": "/tmp/target",  # noqa: S108 - as above
    "CARGO_NET_OFFLINE": "true",
    "GOCACHE": "/tmp/go-cache",  # noqa: S108 - as above
    "npm_config_cache": "/tmp/npm",  # noqa: S108 - as above
    "npm_config_update_notifier": "false",
}


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """A command that the platform ran, with its proof."""

    command: str
    verdict: Verdict
    exit_code: int | None = None
    output: str = ""
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class _Look:
    """What detection asks about a repository, read once."""

    sandbox: Sandbox
    tree: Tree
    _texts: dict[str, str] = field(default_factory=dict)

    def text(self, path: str) -> str:
        """Return a file's text, or "" where there is none that can be read."""
        if path not in self.tree.paths:
            return ""
        if path not in self._texts:
            self._texts[path] = _read(self.sandbox, path)
        return self._texts[path]

    @cached_property
    def pyproject(self) -> Mapping[str, Any]:
        """Return ``[tool]`` of pyproject.toml."""
        try:
            tool = tomllib.loads(self.text("pyproject.toml")).get("tool", {})
        except (ValueError, RecursionError):
            return {}
        return tool if isinstance(tool, dict) else {}

    @cached_property
    def package(self) -> Mapping[str, Any]:
        """Return package.json."""
        try:
            package = json.loads(self.text("package.json") or "{}")
        except (ValueError, RecursionError):
            return {}
        return package if isinstance(package, dict) else {}


def detect(sandbox: Sandbox, paths: Iterable[str] | None = None) -> list[str]:
    """Return the check commands that the repository's files ask for.

    Also those that cannot run here: ``run`` says then what they lack. ``paths`` are the files
    where they are known already; without them the sandbox is asked.
    """
    try:
        look = _Look(sandbox, list_files(sandbox) if paths is None else tree_with(paths))
    except Unmeasured:
        return []
    found = [*_python_tests(look), *_python_linters(look), *_other_languages(look)]
    if not any("test" in command for command in found) and _has_make_test(look):
        found.append("make test")
    return found


def run(sandbox: Sandbox, command: str, *, seconds: float = SECONDS) -> CheckRecord:
    """Run one check to its end and judge it; what visibly lacks something is not started."""
    tree = tree_of(sandbox)
    missing = _missing_packages(_Look(sandbox, tree)) if command.startswith("npm ") else ""
    if missing:
        return CheckRecord(command, "not_run", reason=missing)
    result = sandbox.run(
        Command(
            argv=["bash", "-c", command],
            seconds=seconds,
            env={**ENVIRONMENT, **python_path(tree)},
            keep=4 * OUTPUT_KEPT,
        )
    )
    verdict, reason = judge(command, result, is_ours=lambda name: is_own_module(tree, name))
    output = ESCAPES.sub("", result.text)[-OUTPUT_KEPT:]
    return CheckRecord(command, verdict, result.exit_code, output, reason, round(result.seconds, 2))


def is_own_module(tree: Tree, name: str) -> bool:
    """Tell whether the repository itself holds a module or package of this name."""
    folder, file = f"{name}/", f"{name}.py"
    return any(
        path.startswith(folder) or f"/{folder}" in path or path == file or path.endswith(f"/{file}")
        for path in tree.paths
    )


def tree_of(sandbox: Sandbox) -> Tree:
    try:
        return list_files(sandbox)
    except Unmeasured:
        return Tree(())


def python_path(tree: Tree) -> dict[str, str]:
    """Make a ``src`` layout importable, which an installed package would be."""
    if any(path.startswith("src/") and path.endswith(".py") for path in tree.paths):
        return {"PYTHONPATH": f"{WORKSPACE}/src"}
    return {}


def _read(sandbox: Sandbox, path: str) -> str:
    try:
        return sandbox.read(path, limit=READ_AT_MOST).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _python_tests(look: _Look) -> Iterator[str]:
    tests = [path for path in look.tree.python if _is_test_file(path)]
    configured = (
        "pytest" in look.pyproject
        or "pytest.ini" in look.tree.paths
        or "[tool:pytest]" in look.text("setup.cfg")
    )
    if configured or (tests and not _is_unittest(look, tests)):
        yield "python -m pytest -q"
    elif tests:
        yield f"python -m unittest discover {_start(look, tests)}".strip()


def _is_test_file(path: str) -> bool:
    name = path.rsplit("/", 1)[-1]
    return name.endswith(".py") and (
        name.startswith("test_") or name.endswith("_test.py") or name == "tests.py"
    )


def _is_unittest(look: _Look, tests: list[str]) -> bool:
    """Tell whether the tests are written for unittest and nothing hints at pytest."""
    if any(path.endswith("conftest.py") for path in look.tree.paths):
        return False
    texts = [look.text(path) for path in tests[:TESTS_LOOKED_AT]]
    return any("unittest" in text for text in texts) and not any("pytest" in text for text in texts)


def _start(look: _Look, tests: list[str]) -> str:
    """Return unittest's option for a folder of tests that is no package."""
    folder = tests[0].rpartition("/")[0]
    if not re.fullmatch(r"\w[\w/]*", folder) or f"{folder}/__init__.py" in look.tree.paths:
        return ""
    return f"-s {folder}"


def _python_linters(look: _Look) -> Iterator[str]:
    paths = set(look.tree.paths)
    if "ruff" in look.pyproject or paths & {"ruff.toml", ".ruff.toml"}:
        yield "ruff check ."
    mypy = look.pyproject.get("mypy")
    if mypy is not None or "mypy.ini" in paths or "[mypy]" in look.text("setup.cfg"):
        names_files = isinstance(mypy, dict) and bool(mypy.get("files") or mypy.get("packages"))
        yield "mypy" if names_files else "mypy ."


def _other_languages(look: _Look) -> Iterator[str]:
    scripts = look.package.get("scripts")
    if isinstance(scripts, dict) and scripts.get("test"):
        yield "npm test"
    for file, command in BY_FILE.items():
        if file in look.tree.paths:
            yield command


def _missing_packages(look: _Look) -> str:
    """Say that npm's packages are missing, which npm itself tells in many ways."""
    if not any(look.package.get(kind) for kind in ("dependencies", "devDependencies")):
        return ""
    installed = look.sandbox.run(Command(["test", "-d", "node_modules"], seconds=20))
    if installed.exit_code == 0:
        return ""
    return "node_modules is missing: no setup command has installed the packages"


def _has_make_test(look: _Look) -> bool:
    makefile = look.text("Makefile") or look.text("makefile") or look.text("GNUmakefile")
    return re.search(r"^test\s*:(?!=)", makefile, re.MULTILINE) is not None
