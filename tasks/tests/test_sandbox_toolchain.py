"""What a sandbox sees of the host's programs, and that nothing private lies among them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.sandbox import toolchain
from tasks.sandbox.base import SandboxUnavailable
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.sandbox.toolchain import Toolchain, hidden_folders
from tasks.tests.sandboxes import make_place, shell


def make_installation(folder: Path) -> Path:
    """Lay out a Python installation and return its interpreter."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    return folder / "bin" / "python"


def test_the_platforms_python_comes_first_on_the_path() -> None:
    found = Toolchain.of_platform()
    assert found.path[0] == f"{sys.prefix}/bin"
    assert set(toolchain.SYSTEM_PATH) <= set(found.path)
    assert all(not prefix.is_relative_to("/usr") for prefix in found.prefixes)


def test_another_name_of_the_installation_is_shown_too(tmp_path: Path) -> None:
    make_installation(tmp_path / "3.11.7")
    (tmp_path / "3.11").symlink_to("3.11.7")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    executable = tmp_path / "venv" / "bin" / "python"
    executable.symlink_to(tmp_path / "3.11" / "bin" / "python")
    assert toolchain._other_names(tmp_path / "3.11.7", executable) == [tmp_path / "3.11"]


def test_a_link_through_a_home_does_not_show_the_home(tmp_path: Path) -> None:
    python = make_installation(tmp_path / "real")
    (tmp_path / "home" / "bin").mkdir(parents=True)
    (tmp_path / "home" / "bin" / "python").symlink_to(python)
    executable = tmp_path / "python"
    executable.symlink_to(tmp_path / "home" / "bin" / "python")
    assert toolchain._other_names(tmp_path / "real", executable) == [tmp_path / "real"]


def test_a_private_folder_within_a_prefix_is_hidden_and_the_prefix_itself_refused(
    tmp_path: Path,
) -> None:
    prefix = tmp_path / "prefix"
    (prefix / "srv" / "var").mkdir(parents=True)
    (tmp_path / "alias").symlink_to(prefix)
    private = [prefix / "srv", tmp_path, tmp_path / "elsewhere", Path("/usr/lib")]
    assert hidden_folders(private, (tmp_path / "alias",)) == (
        Path("/usr/lib"),
        tmp_path / "alias" / "srv",
    )
    with pytest.raises(SandboxUnavailable, match="private files"):
        hidden_folders([prefix], (tmp_path / "alias",))


def test_what_is_hidden_shows_empty_and_what_lies_within_it_can_be_shown(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    tools, secret = prefix / "app" / "venv", prefix / "app" / "var"
    for folder in (tools, secret):
        folder.mkdir(parents=True)
        (folder / "file").write_text("content")
        (folder / "file").chmod(0o644)
    shown = replace(Toolchain.of_platform(), prefixes=(*Toolchain.of_platform().prefixes, prefix))
    covered = replace(shown, prefixes=(*shown.prefixes, tools), hidden=(prefix / "app",))
    workspace = make_place(tmp_path / "place").workspace
    script = f"cat {secret}/file; cat {tools}/file; touch {prefix}/app/x && echo WRITTEN"
    with Bubblewrap(workspace, toolchain=shown) as sandbox:
        assert sandbox.run(shell(script)).output.startswith(b"contentcontent")
    with Bubblewrap(workspace, toolchain=covered) as sandbox:
        text = sandbox.run(shell(script)).text
    assert text.count("content") == 1
    assert f"{secret}/file: No such file" in text
    assert "WRITTEN" not in text


def test_the_platforms_own_folder_is_not_seen(tmp_path: Path) -> None:
    with make_place(tmp_path).sandbox() as sandbox:
        listing = sandbox.run(shell(f"ls {toolchain.PLATFORM} {Path.home()}")).text
    assert "manage.py" not in listing
    assert "var" not in listing.split()
