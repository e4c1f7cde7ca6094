"""The tools, each in a folder with plain processes; nothing a model asks for makes them raise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.agent.arguments import BadArguments, read_arguments
from tasks.agent.budget import AgentLimits
from tasks.agent.ports import ToolResult
from tasks.agent.toolbox import Workbench
from tasks.agent.tools import TOOLS, chosen
from tasks.tests.agent_bench import MemoryBench, write_tree
from tasks.tests.local_sandbox import LocalSandbox

FILES = {
    "src/app.py": "import os\n\n\ndef run(n):\n    return n + 1\n\n\ndef stop(n):\n    return n + 1\n",
    "README.md": "# App\n",
    ".gitignore": "build/\n",
    "build/out.txt": "run\n",
}


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    bench = MemoryBench(write_tree(tmp_path / "repo", FILES))
    return Workbench(bench, AgentLimits(command_seconds=5, output_characters=2_000))


def use(workbench: Workbench, name: str, **arguments: Any) -> ToolResult:
    return TOOLS[name].use(workbench, arguments)


def read(workbench: Workbench, path: str) -> str:
    return workbench.sandbox.read(path).decode()


# --- bash --------------------------------------------------------------------------------------


def test_a_command_runs_in_the_workspace_and_its_exit_code_is_the_last_line(
    workbench: Workbench,
) -> None:
    result = use(workbench, "bash", command="ls; exit 3")
    assert "README.md" in result.text
    assert result.text.splitlines()[-1].startswith("[exit code 3, ")
    assert (result.exit_code, result.is_error) == (3, True)


def test_every_command_is_a_fresh_process(workbench: Workbench) -> None:
    use(workbench, "bash", command="cd src; X=1")
    assert "README.md" in use(workbench, "bash", command="ls; echo X=$X").text
    assert "X=1" not in use(workbench, "bash", command="echo X=$X").text


def test_a_command_that_takes_too_long_is_stopped_and_says_so(workbench: Workbench) -> None:
    result = use(workbench, "bash", command="echo begun; sleep 60", timeout=1)
    assert "begun" in result.text
    assert "stopped by the platform after 1 s" in result.text


def test_a_command_gets_the_usual_time_and_at_most_the_limit(tmp_path: Path) -> None:
    bench = MemoryBench(write_tree(tmp_path / "repo", {}))
    sandbox = bench.sandbox
    assert isinstance(sandbox, LocalSandbox)
    workbench = Workbench(bench, AgentLimits(command_seconds=7, command_max_seconds=11))
    use(workbench, "bash", command="true")
    use(workbench, "bash", command="true", timeout=999)
    bench.clock = lambda: AgentLimits().deadline_seconds - 6
    use(workbench, "bash", command="true", timeout=999)
    assert [command.seconds for command in sandbox.commands] == [7, 11, 6]


def test_a_long_output_is_cut_in_the_middle_and_kept_whole(workbench: Workbench) -> None:
    result = use(workbench, "bash", command="seq 1 5000")
    assert len(result.text) < 2_300
    assert result.text.startswith("1\n2\n3\n")
    assert "4999\n5000" in result.text
    assert result.full.decode().split() == [str(number) for number in range(1, 5001)]
    place = result.text.split("all of it is in ")[1].split(" ")[0]
    assert "2500" in use(workbench, "view", path=place, start=2495, end=2505).text


def test_output_is_shown_as_a_person_would_see_it(workbench: Workbench) -> None:
    script = r"printf '\033[31mred\033[0m 10%%\r 100%%\n\xff\xfe\n'"
    assert use(workbench, "bash", command=script).text.splitlines()[:2] == [" 100%", "��"]


@pytest.mark.parametrize(
    "hidden",
    ["\u200b", "\u202e", "\u2066", "\ufeff", "\U000e0041", "\U000e0101", "\u00ad", "\ufe01"],
)
def test_invisible_characters_are_made_visible(workbench: Workbench, hidden: str) -> None:
    workbench.sandbox.write("evil.md", f"be{hidden}nign\n".encode())
    shown = f"be⟨U+{ord(hidden):04X}⟩nign"
    assert shown in use(workbench, "view", path="evil.md").text
    assert shown in use(workbench, "bash", command="cat evil.md").text
    assert shown in use(workbench, "search", pattern="nign").text


def test_ordinary_text_of_any_script_is_left_alone(workbench: Workbench) -> None:
    text = "naïve 日本語 العربية 👍️ \t x"
    workbench.sandbox.write("a.md", f"{text}\n".encode())
    assert text in use(workbench, "view", path="a.md").text


# --- view --------------------------------------------------------------------------------------


def test_a_file_is_shown_with_line_numbers_and_ranges(workbench: Workbench) -> None:
    whole = use(workbench, "view", path="/workspace/src/app.py").text
    assert whole.splitlines()[3] == "     4\tdef run(n):"
    part = use(workbench, "view", path="src/app.py", start=4, end=5).text
    assert part.splitlines() == [
        "     4\tdef run(n):",
        "     5\t    return n + 1",
        "[lines 4 to 5 of 9]",
    ]


def test_a_long_file_says_where_it_goes_on(workbench: Workbench) -> None:
    workbench.sandbox.write("long.txt", b"x" * 50 + b"\n" + b"line\n" * 3000)
    text = use(workbench, "view", path="long.txt").text
    assert len(text) < 2_200
    assert text.splitlines()[-1].endswith("of 3001]")


def test_a_folder_is_listed_two_levels_deep(workbench: Workbench) -> None:
    lines = use(workbench, "view", path=".").text.splitlines()
    assert {"README.md", "src/", "src/app.py"} <= set(lines)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("missing.py", "no such file"),
        ("../etc/passwd", "outside the workspace"),
        ("/etc/passwd", "outside the workspace"),
        ("/tmp/../etc/passwd", "outside the workspace"),
        (".git/config", "belongs to the platform"),
        ("src/../.git/hooks/x", "belongs to the platform"),
    ],
)
def test_a_path_that_cannot_be_seen_is_an_error_in_words(
    workbench: Workbench, path: str, words: str
) -> None:
    result = use(workbench, "view", path=path)
    assert result.is_error
    assert words in result.text


def test_a_binary_file_is_named_and_not_shown(workbench: Workbench) -> None:
    workbench.sandbox.write("a.bin", b"\x00\x01" * 100)
    assert "binary file of 200 bytes" in use(workbench, "view", path="a.bin").text


# --- edit --------------------------------------------------------------------------------------


def test_a_unique_text_is_replaced_and_the_change_shown(workbench: Workbench) -> None:
    result = use(workbench, "edit", path="src/app.py", old="def run(n):", new="def run(n=0):")
    assert "     4\tdef run(n=0):" in result.text
    assert "def run(n=0):" in read(workbench, "src/app.py")


def test_a_text_that_occurs_twice_is_refused_with_its_lines(workbench: Workbench) -> None:
    result = use(workbench, "edit", path="src/app.py", old="return n + 1", new="return n")
    assert result.is_error
    assert "lines 5, 9" in result.text
    assert read(workbench, "src/app.py") == FILES["src/app.py"]


def test_a_text_that_is_not_there_is_answered_with_the_nearest_lines(workbench: Workbench) -> None:
    result = use(workbench, "edit", path="src/app.py", old="def runs(n):", new="x")
    assert "not found" in result.text
    assert "     4\tdef run(n):" in result.text


def test_a_new_file_comes_from_an_empty_old_text_and_never_replaces_one(
    workbench: Workbench,
) -> None:
    assert not use(workbench, "edit", path="new/a.py", old="", new="X = 1\n").is_error
    assert read(workbench, "new/a.py") == "X = 1\n"
    again = use(workbench, "edit", path="new/a.py", old="", new="X = 2\n")
    assert "exists already" in again.text
    assert read(workbench, "new/a.py") == "X = 1\n"


@pytest.mark.parametrize(
    ("path", "text"),
    [("a.py", "def broken(:\n"), ("a.json", "{"), ("a.toml", "= 1"), ("b.py", "x" + ")" * 9)],
)
def test_a_file_that_no_longer_parses_is_reported(
    workbench: Workbench, path: str, text: str
) -> None:
    result = use(workbench, "edit", path=path, old="", new=text)
    assert not result.is_error
    assert "does not parse" in result.text
    assert (
        "does not parse" not in use(workbench, "edit", path=f"c{path}.txt", old="", new=text).text
    )


@pytest.mark.parametrize("deep", ["(" * 90_000, "-" * 90_000 + "1", "a" + ".b" * 90_000, "[" * 500])
def test_code_that_is_nested_absurdly_deep_is_only_reported(
    workbench: Workbench, deep: str
) -> None:
    assert not use(workbench, "edit", path="deep.py", old="", new=deep).is_error
    assert not use(workbench, "edit", path="deep.json", old="", new=deep).is_error


def test_line_endings_and_bytes_that_are_no_text_survive_an_edit(workbench: Workbench) -> None:
    workbench.sandbox.write("dos.txt", b"one\r\ntwo\r\nthree \xff\r\n")
    assert not use(workbench, "edit", path="dos.txt", old="one\ntwo", new="1\n2").is_error
    assert workbench.sandbox.read("dos.txt") == b"1\r\n2\r\nthree \xff\r\n"


def test_nothing_outside_the_workspace_is_written(workbench: Workbench) -> None:
    for path in ("../x", "/etc/x", ".git/config", "."):
        assert use(workbench, "edit", path=path, old="", new="x").is_error


def test_a_read_only_workspace_is_said_to_be_one(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "repo", FILES)
    bench = MemoryBench(root, sandbox=LocalSandbox(root, read_only=True))
    result = use(Workbench(bench, AgentLimits()), "edit", path="a", old="", new="x")
    assert result.text == "This place is read-only."


def test_reading_modes_have_no_tool_that_counts_as_changing() -> None:
    tools = chosen(TOOLS, is_read_only=True)
    assert not {"edit", "apply_patch"} & set(tools)
    assert not any(tool.changes for tool in tools.values())
    assert chosen(TOOLS, is_read_only=False)["bash"].changes


# --- search and plan ---------------------------------------------------------------------------


def test_search_finds_lines_and_leaves_out_what_git_ignores(workbench: Workbench) -> None:
    result = use(workbench, "search", pattern="run")
    assert result.text.splitlines() == ["src/app.py:4:def run(n):"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"glob": "*.py"}, "src/app.py"),
        ({"pattern": "--version", "path": "src"}, "Nothing was found."),
        ({"pattern": "nowhere-to-be-found"}, "Nothing was found."),
        ({"pattern": "("}, "The search failed"),
        ({"pattern": "def", "context": 1, "path": "src/app.py"}, "4:def run(n):"),
        ({"pattern": "x", "path": "../.."}, "outside the workspace"),
    ],
)
def test_search_answers_in_words(
    workbench: Workbench, arguments: dict[str, Any], expected: str
) -> None:
    assert expected in use(workbench, "search", **arguments).text


def test_a_plan_is_shown_to_the_user(workbench: Workbench) -> None:
    items = [
        {"title": "Read\u202e it", "status": "done"},
        {"title": "Mend it", "status": "pending"},
    ]
    assert "1 of 2 done" in use(workbench, "plan", items=items).text
    bench = workbench.bench
    assert isinstance(bench, MemoryBench)
    assert bench.plans == [[("Read⟨U+202E⟩ it", "done"), ("Mend it", "pending")]]


# --- arguments ---------------------------------------------------------------------------------


def test_arguments_are_taken_as_models_write_them() -> None:
    schema = TOOLS["view"].spec.schema
    raw = '{"path": "a", "start": "5", "end": 7.0, "extra": [1]}'
    assert read_arguments(raw, schema) == {"path": "a", "start": 5, "end": 7}
    assert read_arguments('{"path": "a", "start": null}', schema) == {"path": "a"}


@pytest.mark.parametrize(
    "raw",
    [
        "", "[]", "null", "7", '"text"', "{", '{"path": 7}', '{"path": ["a"]}', '{"path": null}',
        '{"path": "a\\u0000b"}', '{"path": "a", "start": 0}', '{"path": "a", "start": true}',
        '{"path": "a", "start": "many"}', '{"path": "' + "x" * 2000 + '"}', "[" * 100_000,
        '{"path": "a", "start": 1e400}', '{"path": ' + "9" * 6000 + "}",
    ],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused_in_words(raw: str) -> None:
    with pytest.raises(BadArguments) as caught:
        read_arguments(raw, TOOLS["view"].spec.schema)
    assert 5 < len(str(caught.value)) < 700


LIMITED: dict[str, Any] = {
    "properties": {
        "list": {"type": "array", "minItems": 1, "maxItems": 2},
        "count": {"type": "integer", "minimum": 2, "maximum": 4},
        "word": {"type": "string", "minLength": 2, "maxLength": 3},
        "yes": {"type": "boolean"},
        "one": {"type": "string", "enum": ["a", "b"]},
        "in": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    }
}


@pytest.mark.parametrize(
    ("name", "fitting", "others"),
    [
        ("list", [["a"], ["a", "b"], '["a"]'], [[], ["a", "b", "c"], "a", [1]]),
        ("count", [2, 4, "3", 3.0], [1, 5, 2.5, "x", True]),
        ("word", ["ab", "abc"], ["a", "abcd", " a ", 5]),
        ("yes", [True, "false"], ["maybe", 1]),
        ("one", ["a"], ["c", ""]),
        ("in", [{"x": 1}, '{"x": 1}', {"x": 1, "y": 2}], [{}, {"x": "y"}, [1]]),
    ],
)
def test_limits_hold_at_their_edges(name: str, fitting: list[Any], others: list[Any]) -> None:
    for value in fitting:
        assert name in read_arguments(json.dumps({name: value}), LIMITED)
    for value in others:
        with pytest.raises(BadArguments, match=name):
            read_arguments(json.dumps({name: value}), LIMITED)


def test_lone_surrogates_never_reach_a_tool() -> None:
    arguments = read_arguments('{"path": "a\\ud800"}', TOOLS["view"].spec.schema)
    assert arguments["path"].encode() == b"a?"


def read_or_refuse(raw: str, schema: dict[str, object]) -> dict[str, Any] | None:
    """Return what fits; let everything but a refusal in words rise."""
    try:
        return read_arguments(raw, schema)
    except BadArguments as error:
        if not str(error):
            raise
    return None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
FIELDS = [
    "command", "timeout", "path", "start", "end", "old", "new", "patch", "pattern", "glob", "context",
    "items",
]  # fmt: skip
HOSTILE = st.sampled_from(
    [
        "../../etc/passwd", "/etc/passwd", "-rf", "--help", "a\x00b", "\ud800", "\u202e", "~", "$(id)",
        "src/app.py", ".", "", " ", "*", "[", "(", "\\", "x" * 5000, "/workspace/../..", "src/app.py/x",
        "*** Begin Patch\n*** Update File: src/app.py\n@@\n-def\n+x\n*** End Patch",
        "--- a/src/app.py\n+++ b/src/app.py\n@@ -1,1 +1,1 @@\n-import os\n+import sys\n",
        "*** Begin Patch\n*** Add File: ../x\n+x", "@@ -1 +1 @@", "*** Delete File: .",
    ]
)  # fmt: skip
ARGUMENTS = st.dictionaries(st.sampled_from(FIELDS), HOSTILE | JSON, max_size=6)


@given(name=st.sampled_from([name for name in TOOLS if name != "bash"]), arguments=ARGUMENTS)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_arguments_make_a_tool_raise_or_leave_the_workspace(
    workbench: Workbench, name: str, arguments: dict[str, Any]
) -> None:
    raw = json.dumps(arguments)
    fitting = read_or_refuse(raw, TOOLS[name].spec.schema)
    if fitting is None:
        return
    result = TOOLS[name].use(workbench, fitting)
    assert result.text
    assert len(result.text) < 20_000
    result.text.encode()
    root = workbench.bench.root  # type: ignore[attr-defined] # the double's own
    assert {path.name for path in root.parent.iterdir()} <= {"repo", "tmp"}


@given(raw=st.text(max_size=200) | JSON.map(str))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused(raw: str) -> None:
    for tool in TOOLS.values():
        read_or_refuse(raw, tool.spec.schema)
