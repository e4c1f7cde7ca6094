"""The rules of the house that no linter holds."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynccoder.lib.errors import RunFailed

ROOT = Path(__file__).resolve().parents[2]
APPS = ["accounts", "aimodels", "asynccoder", "billing", "repositories", "tasks"]
PACKAGES = [*APPS, "benchmarks", "campaigns"]
VAGUE = {"utils", "helpers", "common", "misc", "services", "managers", "signals"}
MODULE_LINES, TEST_LINES, FUNCTION_LINES, TEMPLATE_LINES = 400, 600, 60, 150


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def python_files(*, tests: bool = True) -> list[Path]:
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return sorted(
        path
        for path in found
        if "migrations" not in path.parts and (tests or "tests" not in path.parts)
    )


def text_files() -> Iterator[Path]:
    """Yield every text file of ours, in the root, the apps and the folders beside them."""
    kinds = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".html", ".js", ".css", ".json", ""}
    top = [path for path in ROOT.iterdir() if path.is_file() and path.suffix in kinds]
    folders = [*PACKAGES, "docs", "proxy", "templates", ".ci"]
    deep = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in (*top, *deep):
        if (
            path.suffix in kinds
            and path.name not in (".env", ".git")
            and "__pycache__" not in path.parts
        ):
            yield path


@pytest.mark.parametrize("path", python_files(), ids=relative)
def test_module_is_small_and_well_named(path: Path) -> None:
    assert path.stem not in VAGUE, "name the module after the thing it knows"
    limit = TEST_LINES if "tests" in path.parts else MODULE_LINES
    assert len(path.read_text().splitlines()) <= limit


@pytest.mark.parametrize("path", python_files(tests=False), ids=relative)
def test_no_function_is_long(path: Path) -> None:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    long = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: lines for name, lines in long.items() if lines > FUNCTION_LINES} == {}


TIMED = re.compile(r"assert .*(?:monotonic|perf_counter|time\.time)\(\) *[-<>]")


def test_no_test_looks_at_the_clock() -> None:
    """A busy machine is slow: a condition, an order or processor time says what is meant."""
    tests = [path for path in python_files() if "tests" in path.parts]
    assert [relative(path) for path in tests if TIMED.search(path.read_text())] == []
    assert TIMED.search(" ".join(("assert", "time.monotonic()", "- began < 5")))


def test_no_template_is_long() -> None:
    templates = [
        path for folder in ["templates", *APPS] for path in (ROOT / folder).rglob("*.html")
    ]
    long = [relative(path) for path in templates if path.read_text().count("\n") > TEMPLATE_LINES]
    assert long == []


def test_every_management_command_has_a_test() -> None:
    tests = "\n".join(path.read_text() for path in python_files() if "tests" in path.parts)
    commands = [path.stem for path in python_files() if path.parent.name == "commands"]
    missing = [name for name in commands if name != "__init__" and f'"{name}"' not in tests]
    assert missing == []


def test_every_error_code_of_a_failed_run_is_unique() -> None:
    for path in python_files(tests=False):
        if path.stem == "errors":
            importlib.import_module(relative(path).removesuffix(".py").replace("/", "."))
    codes = Counter(error.code for error in descendants(RunFailed))
    assert [code for code, count in codes.items() if count > 1] == []
    assert RunFailed.code not in codes, "every child of RunFailed has a code of its own"


def descendants(kind: type[RunFailed]) -> Iterator[type[RunFailed]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


READS = r"""(?:env\.\w+|own_secret|environ\.get|getenv)\(\s*"([A-Z][A-Z0-9_]+)"|environ\["([A-Z][A-Z0-9_]+)"\]"""
NOT_THE_OPERATORS = {"DJANGO_SETTINGS_MODULE", "PATH", "HOME", "LANG", "FIELD_ENCRYPTION_KEY"}


def named_in_example() -> list[str]:
    text = (ROOT / ".env.example").read_text()
    return re.findall(r"^#?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE)


def test_env_example_names_every_variable_that_is_read_and_no_other() -> None:
    sources = "\n".join(
        # What benchmarks and campaigns tell the processes that they start is no setting.
        path.read_text()
        for path in python_files(tests=False)
        if path.relative_to(ROOT).parts[0] in APPS
    )
    read = {first or second for first, second in re.findall(READS, sources)} - NOT_THE_OPERATORS
    outside = {"TEST_DATABASE_URL", "TEST_REDIS_URL", "POSTGRES_PASSWORD", "PROXY_BIND"}
    assert read - set(named_in_example()) == set()
    assert set(named_in_example()) - read - outside == set()


def test_env_example_names_each_variable_once_below_a_line_of_explanation() -> None:
    names = named_in_example()
    assert [name for name, count in Counter(names).items() if count > 1] == []
    blocks = re.split(r"\n\n", (ROOT / ".env.example").read_text())
    assert all(re.match(r"# ", block) for block in blocks)


def test_the_defaults_in_env_example_are_those_of_the_settings() -> None:
    sources = "\n".join(
        # What benchmarks and campaigns tell the processes that they start is no setting.
        path.read_text()
        for path in python_files(tests=False)
        if path.relative_to(ROOT).parts[0] in APPS
    )
    shown = dict(re.findall(r"^([A-Z][A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.M))
    read = r'env\.\w+\(\s*"{}",\s*default=("?)([^\[\]"]+?)\1,?\s*\)'
    wrong = {}
    for name, value in shown.items():
        for _, default in re.findall(read.replace("{}", name), sources):
            if not default.startswith("f") and plain(default) != value:
                wrong[name] = (value, default)
    assert wrong == {}


def plain(default: str) -> str:
    """Return a default of the source as an operator writes it: 1024**3 is 1073741824."""
    if re.fullmatch(r"[\d_* +]+", default):
        # Digits and operators of our own source alone.
        return str(eval(default))
    return default.lower() if default in ("True", "False") else default


# Joined here, so that this file does not hold them itself.
FOREIGN = [
    "".join(parts)
    for parts in (
        ("/work", "/main"), ("/work", "/shared"), ("/work", "/."), ("/root/", ".pyenv"),
        ("py", "pi.org"), ("python", "hosted.org"), ("registry.", "npmjs"), ("deb.", "debian.org"),
    )
]  # fmt: skip


def test_nothing_names_a_machine_or_a_package_registry() -> None:
    found = [
        f"{relative(path)}: {word}"
        for path in text_files()
        for text in [path.read_text(errors="replace")]
        for word in FOREIGN
        if word in text
    ]
    assert found == []
