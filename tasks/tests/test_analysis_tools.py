"""Each analyser on small bad files, in the real sandbox, on a read-only tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.analysis import (
    bandit,
    coverage,
    docstrings,
    duplication,
    lizard,
    mypy,
    ruff,
    secrets,
    size,
)
from tasks.analysis.base import Finding, Measured, Measurement, NotMeasured, list_files
from tasks.sandbox.base import Command, Sandbox
from tasks.tests.trees import local_sandbox, real_sandbox

SECRET = "k9Xv2LmQ7pRt4Zw8"
BRANCHES = "\n".join(f"    if x == {i}:\n        return {i * 3}" for i in range(12))
SAME = "\n".join(f"    total_{i} = compute(values, {i}) + offset" for i in range(10))
FILES = {
    "shop/__init__.py": "",
    "shop/cart.py": (
        '"""A cart."""\n\nimport os\nimport subprocess\n\n\n'
        "def is_open(state):\n    return state is 'open'\n\n\n"
        "def run(name):\n    subprocess.call('ls ' + name, shell=True)\n\n\n"
        f"def grade(x):\n{BRANCHES}\n    return None\n"
    ),
    "shop/typed.py": '"""Types."""\n\n\ndef count() -> int:\n    return "three"\n',
    "shop/keys.py": f'"""Keys."""\n\nAPI_TOKEN = "{SECRET}"\nPASSWORD = "changeme"\n',
    "shop/one.py": f"def one(values, offset, compute):\n{SAME}\n    return total_0\n",
    "shop/two.py": f"def two(values, offset, compute):\n{SAME}\n    return total_1\n",
    "web/app.js": "function pick(a) {\n" + "".join(
        f"  if (a === {i}) {{ return {i}; }}\n" for i in range(12)
    ) + "  return 0;\n}\n",
    "node_modules/left/index.js": "var x = 1\n",
    "broken.py": "def (:\n",
    "tests/test_shop.py": (
        "from shop.typed import count\n\n\ndef test_count():\n    assert count()\n"
        f"    password = '{SECRET}'\n    assert password\n"
    ),
    "pyproject.toml": '[tool.pytest.ini_options]\ntestpaths = ["tests"]\n',
    # What a repository might do to be found clean.
    "ruff.toml": 'exclude = ["*"]\n',
    ".bandit": "[bandit]\nskips = B602\nexclude = /shop\n",
    "mypy.ini": "[mypy]\nplugins = evil.py\nignore_errors = True\n",
    "evil.py": "raise SystemExit('the plugin ran')\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("analysis")
    with real_sandbox(folder, FILES, read_only=True) as running:
        yield running


def measured(measurement: Measurement) -> Measured:
    assert isinstance(measurement, Measured), measurement
    return measurement


def find(measurement: Measurement, rule: str) -> list[Finding]:
    return [one for one in measured(measurement).findings if one.rule == rule]


def test_files_are_listed_without_vendored_ones(sandbox: Sandbox) -> None:
    paths = list_files(sandbox).paths
    assert "shop/cart.py" in paths
    assert not any(path.startswith("node_modules") for path in paths)


def test_size_counts_files_and_lines_by_language(sandbox: Sandbox) -> None:
    figures = measured(size.measure(sandbox)).figures
    assert figures["languages"]["JavaScript"] == {"files": 1, "lines": 15}
    assert figures["files"] == len(FILES) - 1


def test_ruff_finds_smells_that_the_repository_configured_away(sandbox: Sandbox) -> None:
    control = sandbox.run(Command(["ruff", "check", "--no-cache", "."]))
    assert b"No Python files" in control.output
    smells = ruff.measure(sandbox)
    assert [(one.path, one.line, one.severity) for one in find(smells, "F632")] == [
        ("shop/cart.py", 8, "high")
    ]
    assert {one.path for one in find(smells, "F401")} == {"shop/cart.py"}
    assert measured(smells).version.startswith("0.")


def test_bandit_finds_what_the_repository_configured_away(sandbox: Sandbox) -> None:
    (issue,) = find(bandit.measure(sandbox), "B602")
    assert (issue.path, issue.line, issue.severity) == ("shop/cart.py", 12, "high")
    assert issue.confidence == "high"
    assert "shell=True" in issue.recommendation


def test_bandit_repeats_no_password(sandbox: Sandbox) -> None:
    assert find(bandit.measure(sandbox), "B105")
    assert SECRET not in str(bandit.measure(sandbox))


def test_lizard_measures_python_and_javascript(sandbox: Sandbox) -> None:
    complexity = lizard.measure(sandbox)
    assert {one.path for one in find(complexity, "complexity")} == {"shop/cart.py", "web/app.js"}
    figures = measured(complexity).figures
    assert figures["complex"] == 2
    assert figures["worst"][0]["complexity"] == 13


def test_mypy_runs_no_plugin_and_goes_on_without_a_broken_file(sandbox: Sandbox) -> None:
    control = sandbox.run(Command(["mypy", "--cache-dir=/dev/null", "shop"]))
    assert b"the plugin ran" in control.output
    types = mypy.measure(sandbox)
    assert [(one.path, one.line) for one in find(types, "return-value")] == [("shop/typed.py", 5)]
    assert measured(types).figures["refused"] == ["broken.py"]


def test_duplicated_blocks_name_their_twin(sandbox: Sandbox) -> None:
    (block,) = find(duplication.measure(sandbox), "duplicate")
    assert (block.path, block.line) == ("shop/two.py", 2)
    assert "shop/one.py:2" in block.message


def test_credentials_are_found_and_masked(sandbox: Sandbox) -> None:
    found = secrets.measure(sandbox)
    places = {(one.path, one.line, one.severity) for one in measured(found).findings}
    assert places == {("shop/keys.py", 3, "high"), ("tests/test_shop.py", 6, "low")}
    assert SECRET not in str(found)


def test_undocumented_public_names_are_listed(sandbox: Sandbox) -> None:
    found = docstrings.measure(sandbox)
    names = {(one.rule, one.path, one.line) for one in measured(found).findings}
    assert ("undocumented-function", "shop/cart.py", 7) in names
    assert ("undocumented-module", "shop/one.py", 1) in names
    assert not any(path.startswith("tests/") for _, path, _ in names)
    assert 0 < measured(found).figures["documented_percent"] < 100


def test_coverage_comes_from_the_tests(sandbox: Sandbox) -> None:
    figures = measured(coverage.measure(sandbox)).figures
    assert 0 < figures["percent"] < 50
    covered = {one["path"]: one["percent"] for one in figures["least_covered"]}
    assert covered["shop/typed.py"] == 100
    assert covered["shop/one.py"] == 0


def test_measuring_twice_gives_the_same(sandbox: Sandbox) -> None:
    for module in (ruff, lizard, duplication, secrets, docstrings, size):
        assert module.measure(sandbox) == module.measure(sandbox)


@pytest.mark.parametrize("module", [ruff, bandit, lizard, mypy, duplication, docstrings, coverage])
def test_nothing_to_measure_is_no_zero(tmp_path: Path, module: object) -> None:
    with real_sandbox(tmp_path, {"README.md": "# Empty\n"}) as empty:
        result = module.measure(empty)  # type: ignore[attr-defined]  # every analyser's module has it
    assert isinstance(result, NotMeasured)
    assert result.reason


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"test_a.py": "import no_such_package\n\ndef test_a(): pass\n"}, "no_such_package"),
        ({"test_a.py": "1 / 0\n"}, "could not be collected"),
        ({"test_a.py": "def test_a(): pass\n"}, "No data to report"),
        ({"test_a.py": "def test_a(): pass\n", "a.py": ""}, "none of the repository's own code"),
    ],
)
def test_tests_that_cannot_run_give_no_coverage(
    tmp_path: Path, files: dict[str, str], reason: str
) -> None:
    result = coverage.measure(local_sandbox(tmp_path, files))
    assert isinstance(result, NotMeasured)
    assert reason in result.reason


def test_files_that_no_test_touches_are_named(tmp_path: Path) -> None:
    files = {
        "used.py": "x = 1\n",
        "unused.py": "y = 1\n",
        "test_a.py": "import used\n\ndef test_a(): assert used.x\n",
    }
    result = measured(coverage.measure(local_sandbox(tmp_path, files)))
    assert result.figures["percent"] == 50
    assert [one.path for one in result.findings] == ["unused.py"]
