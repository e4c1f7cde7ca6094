"""The sandbox in everyday use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.sandbox.base import Command
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.tests.sandboxes import Place, make_place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path, {"a.txt": b"base\n"})


@pytest.fixture
def sandbox(place: Place) -> Iterator[Bubblewrap]:
    with place.sandbox() as sandbox:
        yield sandbox


def test_a_command_runs_in_the_workspace(sandbox: Bubblewrap) -> None:
    result = sandbox.run(Command(["sh", "-c", "pwd; cat a.txt; exit 3"]))
    assert result.exit_code == 3
    assert result.output == b"/workspace\nbase\n"
    assert result.stopped == ""


def test_the_overlay_leaves_the_base_untouched(sandbox: Bubblewrap, place: Place) -> None:
    sandbox.run(Command(["sh", "-c", "echo more >> a.txt; echo new > b.txt"]))
    assert sandbox.read("a.txt") == b"base\nmore\n"
    assert (place.workspace.base / "a.txt").read_bytes() == b"base\n"
    assert not (place.workspace.base / "b.txt").exists()
    assert place.workspace.upper is not None
    assert (place.workspace.upper / "b.txt").read_bytes() == b"new\n"


def test_a_file_is_written_and_read_back(sandbox: Bubblewrap) -> None:
    sandbox.write("deep/er/file.bin", bytes(range(256)))
    assert sandbox.read("deep/er/file.bin") == bytes(range(256))
    assert sandbox.read("/workspace/deep/er/file.bin") == bytes(range(256))
