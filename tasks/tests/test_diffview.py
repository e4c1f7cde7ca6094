"""Diffs: read as git writes them, shown within limits, and never as markup."""

from __future__ import annotations

import html
import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynccoder.templatetags.display import visible
from tasks import diffparse, diffview
from tasks.tests.story import DIFF


def git_diff(folder: Path, before: dict[str, bytes], after: dict[str, bytes], *options: str) -> str:
    """Return what git says between two trees."""

    def run(*arguments: str) -> bytes:
        call = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments]
        return subprocess.run(call, cwd=folder, check=True, capture_output=True).stdout

    run("init", "-q")
    for files in (before, after):
        for path in folder.iterdir():
            if path.name != ".git":
                subprocess.run(["rm", "-rf", str(path)], check=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        run("add", "-A")
        run("commit", "-q", "--allow-empty", "-m", "x")
    return str(run("diff", *options, "HEAD~1", "HEAD").decode("utf-8", "replace"))


def sides(file: diffparse.FileDiff) -> tuple[list[str], list[str]]:
    lines = [line for hunk in file.hunks for line in hunk.lines]
    return (
        [line.text for line in lines if line.sign != "+"],
        [line.text for line in lines if line.sign != "-"],
    )


def test_files_hunks_and_numbers_are_read() -> None:
    invoice, test = diffparse.parse(DIFF)
    assert (invoice.path, invoice.status, invoice.added, invoice.removed) == (
        "billing/invoice.py", "modified", 4, 2,
    )  # fmt: skip
    assert [(line.sign, line.old, line.new) for line in invoice.hunks[0].lines[:5]] == [
        (" ", 40, 40), (" ", 41, 41), ("-", 42, None), ("+", None, 42), ("+", None, 43),
    ]  # fmt: skip
    assert (test.path, test.status, test.added) == ("tests/test_invoice.py", "added", 3)


@pytest.mark.parametrize(
    "name", ["a.py", "with space.py", "tab\there", 'quote".py', "ümlaut/漢字.txt", "b/b/b", "-dash"]
)
def test_names_are_read_as_git_writes_them(tmp_path: Path, name: str) -> None:
    diff = git_diff(tmp_path, {name: b"one\n"}, {name: b"two\n"})
    (file,) = diffparse.parse(diff)
    assert (file.path, file.added, file.removed) == (name, 1, 1)


def test_added_deleted_renamed_binary_and_links_are_told(tmp_path: Path) -> None:
    text = b"".join(b"line %d\n" % number for number in range(30))
    before = {"gone": b"x\n", "old/name": text, "image": b"\0\1\2", "same": b"s\n"}
    after = {"new": b"", "new/name": text + b"more\n", "image": b"\0\1\3", "same": b"s\n"}
    del after["new"]
    diff = git_diff(tmp_path, before, after | {"empty": b""}, "-M")
    found = {file.path: (file.status, file.notes) for file in diffparse.parse(diff)}
    assert found == {
        "gone": ("deleted", []), "empty": ("added", []),
        "new/name": ("renamed", ["renamed from old/name"]),
        "image": ("modified", ["binary file, not shown"]),
    }  # fmt: skip
    link = "diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc/passwd\n"
    assert diffparse.parse(link)[0].notes == ["symbolic link: the line is where it points"]
    mode = "diff --git a/x b/x\nold mode 100644\nnew mode 100755\n"
    assert diffparse.parse(mode)[0].notes == ["mode 100644 → 100755"]


def test_lines_that_look_like_headers_stay_lines(tmp_path: Path) -> None:
    before = {"a": b"-- a/x\n++ b/x\n@@ -1 +1 @@\ndiff --git a/y b/y\nlast"}
    after = {"a": b"-- a/z\n++ b/z\n@@ -9 +9 @@\ndiff --git a/q b/q\nlast\n"}
    (file,) = diffparse.parse(git_diff(tmp_path, before, after))
    assert sides(file)[0] == before["a"].decode().split("\n")
    assert sides(file)[1] == after["a"].decode().split("\n")[:-1]
    assert [line.has_end for line in file.hunks[0].lines].count(False) == 1


def test_plain_diff_without_git_is_read() -> None:
    diff = "--- a.py\t2026-01-01\n+++ a.py\t2026-01-02\n@@ -1 +1 @@\n-x\n+y\n--- b.py\n+++ b.py\n@@ -1 +1 @@\n-1\n+2\n"
    assert [(file.path, file.changed) for file in diffparse.parse(diff)] == [
        ("a.py", 2),
        ("b.py", 2),
    ]


LINES = st.lists(
    st.text(
        alphabet=st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=12
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(before=LINES, after=LINES)
def test_what_git_compares_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, before: list[str], after: list[str]
) -> None:
    texts = ["".join(f"{line}\n" for line in lines) for lines in (before, after)]
    old, new = ({"f": text.encode()} for text in texts)
    diff = git_diff(tmp_path_factory.mktemp("git"), old, new, "--text", "-U9999")
    files = diffparse.parse(diff)
    if texts[0] == texts[1]:
        assert files == []
    else:
        assert sides(files[0]) == (before, after)


PIECES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["diff --git a/x b/x\n", "--- a/x\n", "+++ b/x\n", "@@ -1,3 +1,9 @@ f\n", "+a\n", "-b\n", " c\n",
         "\\ No newline\n", "index 1..2 100644\n", '+++ "b/\\999"\n', "rename from <b>\n", "Binary files \n",
         "@@ -0,0 +99999999999999999999 @@\n", f"@@ -{'9' * 5000} +1 @@\n", "+<script>alert(1)</script>\n", "new file mode \n"]
    ),
)  # fmt: skip
MARKUP = re.compile(r'<span class="(?:key|str|num|com|fun)">|</span>|</?mark>')


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_text_breaks_the_parser_or_becomes_markup(text: str) -> None:
    for file in diffview.show(text):
        for hunk in file.hunks:
            for line in hunk.lines:
                rest = MARKUP.sub("", line.html)
                assert "<" not in rest
                assert line.html.count("<mark>") == line.html.count("</mark>")


@settings(max_examples=100, deadline=None)
@given(
    old=st.text(max_size=40),
    new=st.text(max_size=40),
    name=st.sampled_from(["a.py", "a.js", "a.html", "a"]),
)
def test_colours_and_marks_change_no_character(old: str, new: str, name: str) -> None:
    old, new = (re.sub(r"[\n\r]", "", text) for text in (old, new))
    diff = (
        f"diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-{old}\n+{new}\n"
    )
    (file,) = diffview.show(diff)
    shown = [html.unescape(MARKUP.sub("", line.html)) for line in file.hunks[0].lines]
    assert shown == [visible(old), visible(new)]


def show_line(line: str, name: str = "a.py") -> str:
    diff = f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+{line}\n"
    return diffview.show(diff)[0].hunks[0].lines[0].html


def test_code_is_coloured_and_changed_words_are_marked() -> None:
    assert show_line("def total(self): return 'x'  # y") == (
        '<span class="key">def</span> <span class="fun">total</span>(<span class="key">self</span>): '
        '<span class="key">return</span> <span class="str">&#x27;</span><span class="str">x</span>'
        '<span class="str">&#x27;</span>  <span class="com"># y</span>'
    )
    lines = diffview.show(DIFF)[0].hunks[0].lines
    assert "<mark>" in lines[2].html
    assert "<mark>" not in lines[0].html


def test_invisible_characters_are_written_out() -> None:
    assert show_line("access = 'user\u202e \u2066// check\u2069 \u2066'").count("⟨U+") == 4
    assert "⟨U+000D⟩" in show_line("windows\r")
    (file,) = diffview.show(
        "diff --git a/x b/x\n--- a/evil\u202egpj.exe\n+++ b/evil\u202egpj.exe\n"
    )
    assert "⟨U+202E⟩" in file.path


def many(files: int, lines: int, name: str = "f{}.py") -> str:
    return "".join(
        f"diff --git a/{name.format(n)} b/{name.format(n)}\n--- /dev/null\n+++ b/{name.format(n)}\n"
        f"@@ -0,0 +1,{lines} @@\n" + "".join(f"+x = {line}\n" for line in range(lines))
        for n in range(files)
    )


def test_what_is_over_the_limits_is_folded_and_says_why() -> None:
    few_at_once = diffview.show(many(12, 5))
    assert [bool(file.folded) for file in few_at_once] == [False] * 10 + [True] * 2
    long = diffview.show(many(3, 450))
    assert [bool(file.folded) for file in long] == [False, False, True]
    (huge,) = diffview.show(many(1, 900))
    assert huge.folded == "900 changed lines"
    assert huge.added == 900
    (lock,) = diffview.show(many(1, 3, "package-lock.json"))
    assert lock.folded == "lock or generated file"
    unfolded = diffview.show(many(1, 900), unfold=0)[0]
    assert (unfolded.folded, len(unfolded.hunks[0].lines)) == ("", 900)


def test_one_file_is_shown_in_full_up_to_its_own_limit() -> None:
    file = diffview.show_file(many(2, 3500), 1)
    assert file is not None
    assert (len(file.hunks[0].lines), file.left_out) == (3000, 500)
    assert diffview.show_file(DIFF, 9) is None
    assert diffview.show_file(DIFF, -1) is None


def test_minified_line_is_cut() -> None:
    shown = show_line("x" * 5000)
    assert "3,000 more characters" in shown
    assert len(shown) < 2100


@pytest.mark.parametrize(
    ("name", "line"),
    [("a.py", "(" * 20_000), ("a.js", "/" * 20_000), ("a.html", "<a " * 8_000), ("a.md", "[" * 20_000),
     ("a.yml", "- " * 10_000), ("a.py", '"' * 20_000), ("a.sql", "'" * 20_000)],
)  # fmt: skip
def test_hostile_lines_are_shown_in_time(name: str, line: str) -> None:
    began = time.process_time()
    show_line(line, name)
    assert time.process_time() - began < 5


def test_large_diff_is_shown_in_time() -> None:
    began = time.process_time()
    diffview.show(many(500, 200))
    assert time.process_time() - began < 5
