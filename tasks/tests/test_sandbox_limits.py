"""Time, output, processes, memory and disk: each limit ends the command and keeps the sandbox."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.sandbox import watch
from tasks.sandbox.base import Command, CommandResult, Limits, SandboxLost
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.tests.sandboxes import Place, make_place, python, shell

MB = 1024**2
LIMITS = Limits(
    processes=40, memory=200 * MB, file=30 * MB, disk=40 * MB, output=5 * MB, tmp=48 * MB,
    open_files=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("place"), {"a.txt": b"base\n"})


@pytest.fixture(scope="module")
def sandbox(place: Place) -> Iterator[Bubblewrap]:
    with place.sandbox(LIMITS) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def _sandbox_goes_on(sandbox: Bubblewrap) -> Iterator[None]:
    yield
    # The toolchain, where the project itself lies under /tmp, is mounted there and stays.
    places = "/workspace/* /tmp/* /dev/shm/* /home/agent/*"
    cleaned = f"rm -rf --one-file-system {places} 2>/dev/null; echo ok"
    assert sandbox.run(shell(cleaned)).output == b"ok\n"


@pytest.mark.parametrize(
    "script",
    [
        "sleep 60",
        "while true; do :; done",
        "trap '' TERM INT HUP; while true; do sleep 60; done",
        "setsid sleep 60 & setsid setsid sleep 60 & wait",
    ],
)
def test_time(sandbox: Bubblewrap, script: str) -> None:
    result = sandbox.run(shell(script, seconds=0.3))
    assert result.stopped == "timeout"
    assert result.exit_code == 137
    assert result.seconds >= 0.3


def test_a_command_within_its_time_is_not_stopped(sandbox: Bubblewrap) -> None:
    assert sandbox.run(shell("sleep 0.3")).stopped == ""


def test_output(sandbox: Bubblewrap) -> None:
    result = sandbox.run(Command(["yes"], keep=1000))
    assert result.stopped == "output"
    assert result.total_bytes >= LIMITS.output
    assert result.total_bytes < LIMITS.output + 4 * MB
    assert len(result.output) == 1000


def test_output_at_the_limit_is_not_stopped(sandbox: Bubblewrap) -> None:
    result = sandbox.run(shell(f"head -c {LIMITS.output} /dev/zero"))
    assert (result.stopped, result.total_bytes) == ("", LIMITS.output)


FORK_BOMB = """
import os, time
made = 0
try:
    while made < 400:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except OSError:
    pass
print(made)
"""


def test_processes(sandbox: Bubblewrap) -> None:
    # The command itself is one of them.
    assert sandbox.run(python(FORK_BOMB)).text == f"{LIMITS.processes - 1}\n"


def test_one_tenants_fork_bomb_leaves_the_others_their_share(
    sandbox: Bubblewrap, tmp_path: Path
) -> None:
    with make_place(tmp_path).sandbox(LIMITS) as other:
        while_bombed: list[CommandResult] = []

        def bomb_the_other(_chunk: bytes) -> None:
            while_bombed.append(other.run(python(FORK_BOMB)))
            sandbox.stop()

        held = FORK_BOMB.replace("print(made)", "print(made, flush=True); time.sleep(60)")
        assert sandbox.run(python(held), on_output=bomb_the_other).stopped == "cancelled"
        assert [result.text for result in while_bombed] == [f"{LIMITS.processes - 1}\n"]


def test_a_fork_bomb_that_multiplies_is_gone_at_the_end(sandbox: Bubblewrap) -> None:
    result = sandbox.run(shell("f() { f | f & }; f; sleep 60", seconds=1))
    assert result.stopped == "timeout"
    assert sandbox.run(shell("ls -d /proc/[0-9]* | wc -l")).text.strip() in ("3", "4")


def test_memory_of_one_process(sandbox: Bubblewrap) -> None:
    result = sandbox.run(python("x = b'x' * (400 << 20); import time; time.sleep(60)"))
    assert result.stopped == "memory"


def test_memory_of_many_processes(sandbox: Bubblewrap) -> None:
    grow = "x = b'x' * (60 << 20); import time; time.sleep(60)"
    result = sandbox.run(shell(f'for i in 1 2 3 4 5; do python3 -c "{grow}" & done; wait'))
    assert result.stopped == "memory"


def test_memory_within_the_limit_is_not_stopped(sandbox: Bubblewrap) -> None:
    grow = "x = b'x' * (100 << 20); import os, time; os.fork(); os.fork(); time.sleep(0.6)"
    assert sandbox.run(python(grow)).stopped == "", "shared pages count once"


HIDDEN = """
import mmap, time
kept = []
for _ in range(8):
    piece = mmap.mmap(-1, 40 << 20)
    for offset in range(0, 40 << 20, 4096):
        piece[offset] = 1
    piece.madvise(mmap.MADV_DONTNEED)
    kept.append(piece)
print(open('/proc/self/statm').read().split()[1], flush=True)
time.sleep(60)
"""


def test_memory_that_no_process_shows(sandbox: Bubblewrap) -> None:
    result = sandbox.run(python(HIDDEN))
    assert result.stopped == "memory"
    if result.text:
        # The control: a sum of resident sets would have seen nothing.
        assert int(result.text) * watch.PAGE < 60 * MB


def test_memory_files_are_refused(sandbox: Bubblewrap) -> None:
    source = "import os\ntry: os.memfd_create('x')\nexcept OSError as e: print(e.errno)"
    assert sandbox.run(python(source)).text == "38\n"
    assert os.memfd_create("control") > 0


def test_large_system_v_segments_are_refused(sandbox: Bubblewrap) -> None:
    source = (
        "import ctypes; shmget = ctypes.CDLL(None).shmget\n"
        "print([shmget(0, ctypes.c_size_t(size), 0o1600) >= 0 for size in (56, 65536, 65537, 1 << 32)])"
    )
    assert sandbox.run(python(source)).text == "[True, True, False, False]\n"


def test_one_large_file(sandbox: Bubblewrap) -> None:
    result = sandbox.run(shell("head -c 31M /dev/zero > big; echo $?; stat -c %s big"))
    assert result.text.splitlines()[-2:] == ["153", str(30 * MB)]
    assert sandbox.run(shell("head -c 30M /dev/zero > big; echo $?")).text == "0\n"


def test_many_files(sandbox: Bubblewrap) -> None:
    script = "i=0; while true; do head -c 2M /dev/zero > f$i; i=$((i+1)); sleep 0.02; done"
    result = sandbox.run(shell(script))
    assert result.stopped == "disk"


def test_a_full_disk_can_be_cleaned_up(sandbox: Bubblewrap) -> None:
    filled = sandbox.run(
        shell("head -c 25M /dev/zero > a; head -c 25M /dev/zero > b; sleep 2.2; echo late")
    )
    assert filled.stopped == "disk"
    assert sandbox.run(shell("rm a b; sleep 2.2")).stopped == ""


def test_many_empty_files(tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    for number in range(200):
        (folder / str(number)).touch()
    assert watch.tree_bytes(folder, stop_at=10**9)[0] >= 200 * watch.INODE_COST
    assert watch.tree_bytes(folder, stop_at=10 * 4096)[0] < 20 * watch.INODE_COST


def test_the_disk_watch_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "big").write_bytes(b"x" * MB)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").symlink_to(tmp_path / "out" / "big")
    (tree / "folder").symlink_to(tmp_path / "out")
    (tree / "self").symlink_to(tree)
    size, is_blind = watch.tree_bytes(tree, stop_at=10**9)
    assert size < MB
    assert not is_blind


def test_a_folder_swapped_for_a_link_is_not_entered(tmp_path: Path) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    tree.mkdir()
    (out / "in").mkdir(parents=True)
    (tree / "link").symlink_to(out)
    with watch.listed(str(tree), str(tree)) as entries:
        assert [entry.name for entry in entries] == ["link"]
    for path in (tree / "link", tree / "link" / "in"):
        with pytest.raises(OSError, match=str(path)), watch.listed(str(path), str(tree)):
            pass


UNLINKED = """
import os, time
for number in range(4):
    file = os.open('hidden', os.O_RDWR | os.O_CREAT)
    os.unlink('hidden')
    os.write(file, b'x' * (20 << 20))
time.sleep(60)
"""


@pytest.fixture
def _others_free_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file system's room grow at every look: it says nothing of what one sandbox took."""
    free = itertools.count(10**9, 10**9)
    monkeypatch.setattr(watch, "free_bytes", lambda path: next(free))


@pytest.mark.usefixtures("_others_free_room")
def test_files_without_a_name(sandbox: Bubblewrap) -> None:
    result = sandbox.run(python(UNLINKED, seconds=60))
    assert result.stopped == "disk"


DEEP = """
import os, time
for _ in range(40):
    os.mkdir('d' * 200)
    os.chdir('d' * 200)
for number in range(4):
    with open(str(number), 'wb') as file:
        file.write(b'x' * (20 << 20))
time.sleep(60)
"""


@pytest.mark.usefixtures("_others_free_room")
def test_files_deeper_than_a_path_is_long(sandbox: Bubblewrap) -> None:
    result = sandbox.run(python(DEEP, seconds=60))
    assert result.stopped == "disk"


def test_a_sandbox_that_cannot_be_watched_is_ended(tmp_path: Path) -> None:
    own = make_place(tmp_path)
    assert own.workspace.upper is not None
    with own.sandbox(LIMITS) as sandbox:
        own.workspace.upper.rename(tmp_path / "moved")
        with pytest.raises(SandboxLost, match="watched"):
            sandbox.run(shell("sleep 30"))


@pytest.mark.parametrize(
    ("folder", "most"), [("/tmp", 48), ("/home/agent", 24), ("/dev/shm", 12), ("/var/tmp", 48)]
)
def test_memory_backed_folders_are_sized(sandbox: Bubblewrap, folder: str, most: int) -> None:
    script = (
        f"cd {folder}; for i in 1 2 3; do head -c 25M /dev/zero > f$i; done; du -smx . | cut -f1"
    )
    result = sandbox.run(shell(script))
    assert "No space left on device" in result.text
    assert int(result.text.splitlines()[-1]) <= most


def test_open_files(sandbox: Bubblewrap) -> None:
    source = (
        "import os\nn = 0\n"
        "try:\n    while True: os.open('/', 0); n += 1\n"
        "except OSError as error: print(error.errno, n < 64)"
    )
    assert sandbox.run(python(source)).text == "24 True\n"


def test_no_core_is_dumped(sandbox: Bubblewrap) -> None:
    result = sandbox.run(shell("sh -c 'kill -SEGV $$'; ls -A /workspace /tmp"))
    assert "core" not in result.text.replace("(core dumped)", "FAIL")


def test_the_host_keeps_little_of_a_flood(sandbox: Bubblewrap) -> None:
    result = sandbox.run(Command(["cat", "/dev/zero"], keep=10))
    assert (result.stopped, len(result.output)) == ("output", 10)
    assert result.total_bytes > LIMITS.output
