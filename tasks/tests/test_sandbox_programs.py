"""The programs of ours inside a sandbox: byte code for our own Python, text for another."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from tasks.sandbox import flags, init, relay


@pytest.mark.parametrize(("path", "module"), [(flags.INIT, init), (flags.RELAY, relay)])
def test_program_is_compiled_for_our_python_alone(
    path: str, module: object, tmp_path: Path
) -> None:
    text = Path(str(module.__file__)).read_bytes()  # type: ignore[attr-defined]  # a module
    other = tmp_path / "python3"
    other.write_text("another")
    assert flags.program(path, Path(sys.executable))[:4] == importlib.util.MAGIC_NUMBER
    assert flags.program(path, other) == text
