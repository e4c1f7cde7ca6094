"""Documentation by the built-in engine: one file under docs, made from the code."""

from __future__ import annotations

from pathlib import Path

from tasks.agent.ports import Handback
from tasks.builtin import run_builtin
from tasks.builtin.documentation import BEGIN, END, PATH
from tasks.sandbox.base import Sandbox
from tasks.tests.memory_bench import MemoryBench
from tasks.tests.trees import assign, local_sandbox, real_sandbox, sample_files

CODE = (
    '"""Shapes."""\n\n\nclass Square:\n    """A square."""\n\n'
    "    def area(self, scale: int = 1) -> int:\n        return scale\n\n"
    "    def _own(self):\n        pass\n\n\ndef draw(shape: Square) -> None:\n    pass\n"
)


def document(sandbox: Sandbox, **values: object) -> tuple[Handback, MemoryBench]:
    bench = MemoryBench(sandbox, **values)  # type: ignore[arg-type]  # any field by keyword
    return run_builtin(assign("documentation"), bench), bench


def test_the_sample_is_documented_in_the_real_sandbox(tmp_path: Path) -> None:
    with real_sandbox(tmp_path, sample_files(tmp_path)) as sandbox:
        done, bench = document(sandbox)
        assert [(file.path, file.status) for file in bench.changed_files()] == [(PATH, "added")]
        overview = sandbox.read(PATH).decode()
    assert done.status == "done"
    assert "Read invoice lines from text" in overview
    assert {"path": "ledgerly/tax.py", "line": 28, "kind": "function", "name": "gross"} in (
        done.data["undocumented"]
    )
    assert bench.journal.changing == ["write_overview"]


def test_signatures_first_lines_and_gaps_are_listed(tmp_path: Path) -> None:
    done, bench = document(local_sandbox(tmp_path, {"shapes.py": CODE}))
    overview = bench.sandbox.read(PATH).decode()
    assert "- `class Square` (line 4): A square." in overview
    assert "  - `def area(self, scale: int=1) -> int` (line 7)" in overview
    assert "_own" not in overview
    assert [one["name"] for one in done.data["undocumented"]] == ["Square.area", "draw"]
    assert done.data["documented_percent"] == 50.0


def test_what_people_wrote_around_the_marks_stays(tmp_path: Path) -> None:
    existing = f"# Ours\n\nRead this first.\n\n{BEGIN}\nold\n{END}\n\nThe end.\n"
    _, bench = document(local_sandbox(tmp_path, {"shapes.py": CODE, PATH: existing}))
    written = bench.sandbox.read(PATH).decode()
    assert written.startswith("# Ours\n\nRead this first.\n\n")
    assert written.endswith("\n\nThe end.\n")
    assert "old" not in written


def test_a_page_without_marks_is_added_to(tmp_path: Path) -> None:
    _, bench = document(local_sandbox(tmp_path, {"shapes.py": CODE, PATH: "# By hand\n"}))
    assert bench.sandbox.read(PATH).decode().startswith(f"# By hand\n\n{BEGIN}\n")


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    _, first = document(local_sandbox(tmp_path, {"shapes.py": CODE}))
    written = first.sandbox.read(PATH)
    done, second = document(local_sandbox(tmp_path, {"shapes.py": CODE, PATH: written}))
    assert done.status == "no_change_needed"
    assert second.changed_files() == []


def test_a_resumed_run_comes_to_the_same_end(tmp_path: Path) -> None:
    first, whole = document(local_sandbox(tmp_path, {"shapes.py": CODE}))
    again, _ = document(local_sandbox(tmp_path, {}), replay=whole.journal.steps)
    assert again == first


def test_other_languages_get_their_functions(tmp_path: Path) -> None:
    done, bench = document(
        local_sandbox(tmp_path, {"web/app.js": "function pick(a) { return a }\n"})
    )
    assert "- `pick` (line 1)" in bench.sandbox.read(PATH).decode()
    assert done.data["documented_percent"] is None


def test_an_unparsable_file_is_named(tmp_path: Path) -> None:
    _, bench = document(local_sandbox(tmp_path, {"broken.py": "def (:\n"}))
    assert "could not be parsed (SyntaxError)" in bench.sandbox.read(PATH).decode()


def test_without_code_there_is_nothing_to_document(tmp_path: Path) -> None:
    done, bench = document(local_sandbox(tmp_path, {"README.md": "# Hello\n"}))
    assert done.status == "blocked"
    assert bench.changed_files() == []
