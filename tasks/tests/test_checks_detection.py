"""Which commands check a repository, by what its files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.analysis import checks
from tasks.tests.trees import Files, local_sandbox

TEST = "def test_a():\n    assert True\n"
UNITTEST = "import unittest\n\nclass T(unittest.TestCase):\n    def test_a(self): pass\n"
CASES: list[tuple[Files, list[str]]] = [
    ({"README.md": "nothing"}, []),
    ({"tests/test_a.py": TEST}, ["python -m pytest -q"]),
    ({"pyproject.toml": "[tool.pytest.ini_options]\n"}, ["python -m pytest -q"]),
    ({"setup.cfg": "[tool:pytest]\n"}, ["python -m pytest -q"]),
    ({"test_a.py": UNITTEST}, ["python -m unittest discover"]),
    ({"tests/test_a.py": UNITTEST}, ["python -m unittest discover -s tests"]),
    (
        {"tests/__init__.py": "", "tests/test_a.py": UNITTEST},
        ["python -m unittest discover"],
    ),
    ({"tests/test_a.py": UNITTEST, "conftest.py": ""}, ["python -m pytest -q"]),
    ({"pyproject.toml": "[tool.ruff]\n"}, ["ruff check ."]),
    ({".ruff.toml": ""}, ["ruff check ."]),
    ({"pyproject.toml": "[tool.mypy]\nstrict = true\n"}, ["mypy ."]),
    ({"pyproject.toml": '[tool.mypy]\nfiles = ["a"]\n'}, ["mypy"]),
    ({"mypy.ini": "[mypy]\n"}, ["mypy ."]),
    ({"package.json": '{"scripts": {"test": "node t.js"}}'}, ["npm test"]),
    ({"package.json": '{"scripts": {}}'}, []),
    ({"go.mod": "module a\n"}, ["go test ./..."]),
    ({"Cargo.toml": "[package]\n"}, ["cargo test --offline"]),
    ({"Makefile": "all:\n\ntest: all\n\techo ok\n"}, ["make test"]),
    ({"Makefile": "test := 1\n"}, []),
    ({"Makefile": "test:\n\tpytest\n", "test_a.py": TEST}, ["python -m pytest -q"]),
    ({"pyproject.toml": "not [toml", "package.json": "{"}, []),
    ({"pyproject.toml": "tool = 1\n", "package.json": "[]"}, []),
    ({"package.json": "[" * 100_000}, []),
]


@pytest.mark.parametrize(("files", "commands"), CASES)
def test_the_commands_follow_the_files(tmp_path: Path, files: Files, commands: list[str]) -> None:
    sandbox = local_sandbox(tmp_path, files)
    assert checks.detect(sandbox) == commands
    assert checks.detect(sandbox, sorted(files)) == commands


def test_several_checks_are_found_in_a_fixed_order(tmp_path: Path) -> None:
    files = {
        "test_a.py": TEST,
        "pyproject.toml": "[tool.ruff]\n[tool.mypy]\n",
        "package.json": '{"scripts": {"test": "x"}}',
    }
    assert checks.detect(local_sandbox(tmp_path, files)) == [
        "python -m pytest -q",
        "ruff check .",
        "mypy .",
        "npm test",
    ]
