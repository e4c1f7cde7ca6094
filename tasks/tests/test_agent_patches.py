"""apply_patch: both formats, all or nothing, and failures that say where."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.agent.budget import AgentLimits
from tasks.agent.edits import apply_patch
from tasks.agent.patches import PatchFailed, apply_hunks, parse
from tasks.agent.toolbox import Workbench
from tasks.agent.tools import TOOLS
from tasks.tests.agent_bench import MemoryBench, tree_of, write_tree

FILES = {"a.py": "one\ntwo\nthree\nfour\nfive\n", "b/c.py": "x = 1\ny = 2\n", "old.txt": "bye\n"}


@pytest.fixture
def workbench(tmp_path: Path) -> Workbench:
    return Workbench(MemoryBench(write_tree(tmp_path / "repo", FILES)), AgentLimits())


def patched(workbench: Workbench, patch: str) -> tuple[str, dict[str, bytes]]:
    result = TOOLS["apply_patch"].use(workbench, {"patch": patch})
    bench = workbench.bench
    assert isinstance(bench, MemoryBench)
    return result.text, tree_of(bench.root)


def test_an_envelope_updates_adds_deletes_and_moves(workbench: Workbench) -> None:
    patch = """*** Begin Patch
*** Update File: a.py
@@
 one
-two
+TWO
 three
*** Add File: new/d.py
+hello = 1
+
+world = 2
*** Delete File: old.txt
*** Update File: b/c.py
*** Move to: b/d.py
@@
-x = 1
+x = 10
*** End Patch"""
    text, tree = patched(workbench, patch)
    assert tree == {
        "a.py": b"one\nTWO\nthree\nfour\nfive\n",
        "new/d.py": b"hello = 1\n\nworld = 2\n",
        "b/d.py": b"x = 10\ny = 2\n",
    }
    assert text.splitlines() == [
        "Wrote a.py",
        "Wrote new/d.py",
        "Deleted old.txt",
        "Deleted b/c.py",
        "Wrote b/d.py",
    ]


def test_a_unified_diff_is_applied_where_its_lines_are_though_the_numbers_are_off(
    workbench: Workbench,
) -> None:
    patch = """Some words first.
diff --git a/a.py b/a.py
--- a/a.py
+++ b/a.py
@@ -40,3 +40,4 @@ somewhere
 three
-four
+FOUR
+and more
 five
--- /dev/null
+++ b/e.py
@@ -0,0 +1,1 @@
+e = 1
"""
    _, tree = patched(workbench, patch)
    assert tree["a.py"] == b"one\ntwo\nthree\nFOUR\nand more\nfive\n"
    assert tree["e.py"] == b"e = 1\n"


def test_nothing_is_changed_when_one_part_does_not_fit(workbench: Workbench) -> None:
    patch = """*** Begin Patch
*** Update File: b/c.py
@@
-x = 1
+x = 10
*** Update File: a.py
@@
-no such line
+x
*** End Patch"""
    text, tree = patched(workbench, patch)
    assert "nothing was changed" in text
    assert "a.py: hunk 1 was not found" in text
    assert "no such line" in text
    assert tree == {name: content.encode() for name, content in FILES.items()}


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ("nonsense", "No file was found"),
        ("*** Begin Patch\n*** End Patch", "No file was found"),
        ("*** Begin Patch\n*** Add File: a.py\n+x\n*** End Patch", "exists already"),
        ("*** Begin Patch\n*** Update File: no.py\n@@\n-x\n+y\n*** End Patch", "There is no file"),
        ("*** Begin Patch\n*** Delete File: no.py\n*** End Patch", "There is no file"),
        ("*** Begin Patch\n*** Update File: a.py\n@@\n*one\n*** End Patch", "begins with neither"),
        ("*** Begin Patch\n*** Add File: ../x\n+x\n*** End Patch", "outside the workspace"),
        (
            "*** Begin Patch\n*** Add File: .git/hooks/x\n+x\n*** End Patch",
            "belongs to the platform",
        ),
    ],
)
def test_a_patch_that_cannot_be_is_refused_in_words(
    workbench: Workbench, patch: str, words: str
) -> None:
    text, tree = patched(workbench, patch)
    assert words in text
    assert tree == {name: content.encode() for name, content in FILES.items()}


def test_lines_that_occur_twice_ask_for_more_context_or_an_anchor() -> None:
    text = "def a():\n    return 1\n\ndef b():\n    return 1\n"
    plain = "*** Begin Patch\n*** Update File: x\n@@{}\n-    return 1\n+    return 2\n*** End Patch"
    with pytest.raises(PatchFailed, match="occur 2 times"):
        apply_hunks(text, parse(plain.format(""))[0])
    changed = apply_hunks(text, parse(plain.format(" def b():"))[0])
    assert changed == "def a():\n    return 1\n\ndef b():\n    return 2\n"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("@@\n+new", "a\nb\na\nnew\n"),
        ("@@ b\n+new", "a\nb\nnew\na\n"),
        ("@@\n-a\n+A\n*** End of File", "a\nb\nA\n"),
        ("@@ -1,1 +1,1 @@\n-a\n+A", "A\nb\na\n"),
        ("@@ -3,1 +3,1 @@\n-a\n+A", "a\nb\nA\n"),
        ("@@ -1,0 +2,1 @@\n+new", "a\nnew\nb\na\n"),
        ("-b\n+B", "a\nB\na\n"),
    ],
)
def test_a_hunk_finds_its_place(body: str, expected: str) -> None:
    patch = parse(f"*** Begin Patch\n*** Update File: x\n{body}\n*** End Patch")[0]
    assert apply_hunks("a\nb\na\n", patch) == expected


def test_a_patch_of_too_many_files_is_refused() -> None:
    files = "\n".join(f"*** Delete File: f{number}" for number in range(101))
    with pytest.raises(PatchFailed, match="101 files"):
        parse(f"*** Begin Patch\n{files}\n*** End Patch")
    assert len(parse(f"*** Begin Patch\n{files.rpartition('***')[0]}\n*** End Patch")) == 100


def test_a_unified_diff_renames_and_deletes(workbench: Workbench) -> None:
    patch = """--- a/old.txt
+++ /dev/null
@@ -1,1 +0,0 @@
-bye
--- a/b/c.py
+++ b/b/renamed.py
@@ -1,2 +1,2 @@
-x = 1
+x = 5
 y = 2
\\ No newline at end of file
"""
    _, tree = patched(workbench, patch)
    assert set(tree) == {"a.py", "b/renamed.py"}
    assert tree["b/renamed.py"] == b"x = 5\ny = 2\n"


def test_windows_line_endings_and_trailing_blanks_do_not_hinder() -> None:
    patch = parse("*** Begin Patch\n*** Update File: x\n@@\n one\n-two\n+2\n*** End Patch")[0]
    assert apply_hunks("one  \r\ntwo\r\n", patch) == "one  \r\n2\r\n"


def test_a_syntax_error_after_the_patch_is_reported(workbench: Workbench) -> None:
    patch = "*** Begin Patch\n*** Update File: b/c.py\n@@\n-x = 1\n+x = (\n*** End Patch"
    assert "does not parse" in apply_patch(workbench, {"patch": patch}).text


LINES = st.lists(st.sampled_from(["a", "b", "  c", "", "def f():", "x"]), min_size=1, max_size=25)


@given(before=LINES, after=LINES)
@settings(max_examples=300, deadline=None)
def test_what_difflib_writes_is_applied_exactly(before: list[str], after: list[str]) -> None:
    old, new = "\n".join(before) + "\n", "\n".join(after) + "\n"
    diff = "\n".join(difflib.unified_diff(before, after, "a/f", "b/f", lineterm=""))
    if not diff:
        return
    assert apply_hunks(old, parse(f"{diff}\n")[0]) == new
