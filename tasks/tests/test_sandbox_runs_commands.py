"""The sandbox in everyday use."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.sandbox.base import Command, SandboxLost
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.tests.sandboxes import Place, make_place, shell


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("place"), {"a.txt": b"base\n", "kept.txt": b"kept"})


@pytest.fixture(scope="module")
def sandbox(place: Place) -> Iterator[Bubblewrap]:
    with place.sandbox() as sandbox:
        yield sandbox


def test_a_command_runs_in_the_workspace(sandbox: Bubblewrap) -> None:
    result = sandbox.run(shell("pwd; cat kept.txt; exit 3"))
    assert result.exit_code == 3
    assert result.output == b"/workspace\nkept"
    assert result.stopped == ""
    assert not result.is_cut


def test_the_overlay_leaves_the_base_untouched(sandbox: Bubblewrap, place: Place) -> None:
    sandbox.run(shell("echo more >> a.txt; echo new > b.txt; rm kept.txt; mkdir d; touch d/e"))
    assert sandbox.read("a.txt") == b"base\nmore\n"
    names = {path.name: path.read_bytes() for path in place.workspace.base.iterdir()}
    assert names == {"a.txt": b"base\n", "kept.txt": b"kept"}
    assert place.workspace.upper is not None
    assert (place.workspace.upper / "b.txt").read_bytes() == b"new\n"


def test_a_read_only_sandbox_shows_the_earlier_changes_and_refuses_new_ones(tmp_path: Path) -> None:
    place = make_place(tmp_path, {"a.txt": b"old", "gone.txt": b"x"})
    with place.sandbox() as sandbox:
        sandbox.run(shell("echo new > a.txt; rm gone.txt; touch added"))
    with place.sandbox(read_only=True) as sandbox:
        assert sandbox.run(shell("cat a.txt; ls")).output == b"new\na.txt\nadded\n"
        result = sandbox.run(shell("touch b.txt; echo x >> a.txt; rm a.txt"))
        assert result.text.count("Read-only file system") == 3
        with pytest.raises(PermissionError):
            sandbox.write("b.txt", b"")


def test_without_an_overlay_the_folder_itself_is_worked_on(tmp_path: Path) -> None:
    place = make_place(tmp_path, {"a.txt": b"old"}, overlay=False)
    with place.sandbox() as sandbox:
        assert sandbox.run(shell("echo new > a.txt")).exit_code == 0
    assert (place.workspace.base / "a.txt").read_bytes() == b"new\n"
    with place.sandbox(read_only=True) as sandbox:
        assert sandbox.run(shell("echo newer > a.txt")).exit_code != 0


def test_a_read_only_path_is_found_at_the_same_place_inside(tmp_path: Path) -> None:
    objects = tmp_path / "mirror" / "objects"
    objects.mkdir(parents=True)
    (objects / "pack").write_text("packed")
    place = make_place(tmp_path / "place", read_only_paths=(objects,))
    with place.sandbox() as sandbox:
        result = sandbox.run(shell(f"cat {objects}/pack; touch {objects}/new"))
    assert result.output.startswith(b"packed")
    assert b"Read-only file system" in result.output


def test_the_platforms_own_python_and_tools_are_there(sandbox: Bubblewrap) -> None:
    result = sandbox.run(shell("python -c 'import sys; print(sys.prefix)'; ruff --version"))
    assert result.exit_code == 0, result.text
    assert result.text.startswith(f"{sys.prefix}\nruff ")


def test_the_environment_is_small_and_the_callers_is_added(sandbox: Bubblewrap) -> None:
    result = sandbox.run(Command(["env"], env={"EXTRA": "ünï", "HOME": "/tmp"}))
    lines = dict(line.split("=", 1) for line in result.text.splitlines())
    assert set(lines) == {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TERM", "EXTRA"}
    assert (lines["HOME"], lines["EXTRA"]) == ("/tmp", "ünï")


def test_standard_input_is_given(sandbox: Bubblewrap) -> None:
    content = os.urandom(3 * 1024**2)
    result = sandbox.run(Command(["cat"], stdin=content, keep=4 * 1024**2))
    assert result.output == content
    assert sandbox.run(Command(["cat"])).output == b""


def test_standard_error_can_be_kept_apart(sandbox: Bubblewrap) -> None:
    result = sandbox.run(Command(["sh", "-c", "echo out; echo err >&2"], errors_apart=True))
    assert (result.output, result.errors) == (b"out\n", b"err\n")
    together = sandbox.run(shell("echo out; echo err >&2"))
    assert (together.output, together.errors) == (b"out\nerr\n", b"")


def test_head_and_tail_of_a_long_output_are_kept(sandbox: Bubblewrap) -> None:
    result = sandbox.run(Command(["seq", "1", "200000"], keep=1000))
    whole = b"".join(b"%d\n" % number for number in range(1, 200001))
    assert result.output == whole[:500] + whole[-500:]
    assert result.total_bytes == len(whole)
    assert result.is_cut


def test_output_is_heard_while_the_command_runs(sandbox: Bubblewrap) -> None:
    heard: list[bytes] = []

    def stop(chunk: bytes) -> None:
        heard.append(chunk)
        sandbox.stop()

    # What is heard only at the end would be heard after the time is up.
    result = sandbox.run(shell("echo first; sleep 60; echo second", seconds=30), on_output=stop)
    assert (heard, result.stopped) == ([b"first\n"], "cancelled")


def test_a_listener_that_raises_ends_the_command_and_keeps_the_sandbox(sandbox: Bubblewrap) -> None:
    def refuse(_chunk: bytes) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError):
        sandbox.run(shell("echo x; sleep 30"), on_output=refuse)
    assert sandbox.run(shell("pgrep -c sleep; echo ok")).output == b"0\nok\n"


def test_a_listener_may_not_use_its_own_sandbox(sandbox: Bubblewrap) -> None:
    with pytest.raises(RuntimeError, match="listener"):
        sandbox.run(shell("echo x"), on_output=lambda _chunk: sandbox.write("x", b""))
    assert sandbox.run(shell("echo ok")).output == b"ok\n"


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["no-such-program"], 127, b"command not found"),
        (["/no/such"], 127, b"No such file"),
        (["/workspace"], 126, b"Permission denied"),
        (["sh", "-c", "kill -9 $$"], 137, b""),
        (["echo", "x" * 3 * 1024**2], 126, b"Argument list too long"),
        (["echo", "nul\0byte"], 126, b"embedded null"),
    ],
)
def test_exit_codes_are_a_shells(
    sandbox: Bubblewrap, argv: list[str], code: int, says: bytes
) -> None:
    result = sandbox.run(Command(argv))
    assert result.exit_code == code
    assert says in result.output


def test_a_missing_working_directory_is_named(sandbox: Bubblewrap) -> None:
    result = sandbox.run(Command(["pwd"], cwd="nowhere"))
    assert (result.exit_code, result.text) == (
        127,
        "/workspace/nowhere: No such file or directory\n",
    )


def test_a_command_needs_a_program(sandbox: Bubblewrap) -> None:
    with pytest.raises(ValueError, match="program"):
        sandbox.run(Command([]))


def test_file_names_need_not_be_text(sandbox: Bubblewrap) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    sandbox.write(name, b"x")
    assert sandbox.run(Command(["cat", name])).output == b"x"
    assert sandbox.read(name) == b"x"


def test_a_command_inherits_nothing_but_its_three_streams(sandbox: Bubblewrap) -> None:
    assert sandbox.run(Command(["ls", "/proc/self/fd"])).output == b"0\n1\n2\n3\n"
    state = sandbox.run(shell("grep -E 'SigBlk|SigIgn' /proc/self/status")).text.split()
    # libc leaves its two internal signals (32, 33) ignored in what it spawns.
    assert [int(mask, 16) & ~0x180000000 for mask in state[1::2]] == [0, 0]


def test_no_signal_is_ignored_where_the_worker_ignores_it(tmp_path: Path) -> None:
    heard = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGQUIT)}
    try:
        # As nohup and a shell's & leave them.
        for number in heard:
            signal.signal(number, signal.SIG_IGN)
        with make_place(tmp_path).sandbox() as own:
            state = own.run(shell("grep SigIgn /proc/self/status")).text.split()
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
    assert int(state[1], 16) & 0b111 == 0


def test_git_works_without_any_setting(sandbox: Bubblewrap) -> None:
    result = sandbox.run(shell("git init -q r && cd r && git status --short && id -un && id -u"))
    assert result.output == b"agent\n1000\n"


def test_thousands_of_commands_leak_no_descriptor(sandbox: Bubblewrap) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    sandbox.run(Command(["true"]))
    before = descriptors()
    for _ in range(2000):
        sandbox.run(Command(["true"]))
    sandbox.read("a.txt")
    assert descriptors() == before
    # The init too: its limit on open files would have been reached.
    assert sandbox.run(Command(["echo", "ok"])).output == b"ok\n"


def test_a_sandbox_that_was_left_is_lost(tmp_path: Path) -> None:
    with make_place(tmp_path).sandbox() as sandbox:
        pass
    with pytest.raises(SandboxLost):
        sandbox.run(Command(["true"]))
    sandbox.stop()


def test_several_sandboxes_run_side_by_side(tmp_path: Path) -> None:
    results: list[bytes] = []

    def work(number: int) -> None:
        with make_place(tmp_path / str(number)).sandbox() as sandbox:
            sandbox.write("n", str(number).encode())
            results.append(sandbox.run(shell("sleep 0.2; cat n; ls")).output)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [b"%dn\n" % number for number in range(4)]
