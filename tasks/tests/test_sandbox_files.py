"""Reading and writing files inside: whatever a tenant puts at a path, the host gets bytes or an error."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasks.sandbox.base import Limits
from tasks.sandbox.bubblewrap import Bubblewrap
from tasks.tests.sandboxes import make_place, shell

MB = 1024**2


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bubblewrap]:
    place = make_place(tmp_path_factory.mktemp("place"), {"a.txt": b"base\n"})
    with place.sandbox(Limits(file=20 * MB)) as sandbox:
        sandbox.run(
            shell(
                "ln -s /etc/shadow shadow; ln -s ../../../../../etc/shadow climb; ln -s a.txt link;"
                "ln -s /proc/1/environ environ; ln -s /proc/self/environ own; ln -s loop loop;"
                "mkfifo fifo; mkdir folder; truncate -s 15M sparse; head -c 2M /dev/zero > large;"
                "printf x > secret; chmod 0 secret; ln -s /dev/zero zero; touch empty;"
                "python3 -c \"import socket; socket.socket(1).bind('sock')\""
            )
        )
        yield sandbox


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("missing", FileNotFoundError),
        ("a.txt/below", FileNotFoundError),
        ("shadow", FileNotFoundError),
        ("climb", FileNotFoundError),
        ("/etc/shadow", FileNotFoundError),
        ("../etc/shadow", FileNotFoundError),
        ("folder", IsADirectoryError),
        (".", IsADirectoryError),
        ("", IsADirectoryError),
        ("secret", PermissionError),
        ("environ", PermissionError),
        ("/proc/1/mem", PermissionError),
        ("loop", ValueError),
        ("fifo", ValueError),
        ("sock", ValueError),
        ("zero", ValueError),
        ("/dev/null", ValueError),
        ("/proc/kmsg", PermissionError),
        ("sparse", ValueError),
        ("large", ValueError),
        ("n" * 300, ValueError),
        ("nul\0byte", ValueError),
    ],
)
def test_what_is_no_readable_file_is_refused(
    sandbox: Bubblewrap, path: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        sandbox.read(path, limit=MB)


def test_opening_a_fifo_would_wait_for_ever_from_outside(sandbox: Bubblewrap) -> None:
    assert sandbox.run(shell("cat fifo", seconds=0.3)).stopped == "timeout"


def test_links_are_followed_inside(sandbox: Bubblewrap) -> None:
    assert sandbox.read("link") == b"base\n"
    assert b"init.py" not in sandbox.read("/etc/passwd")


def test_a_file_as_large_as_the_limit_is_read(sandbox: Bubblewrap) -> None:
    assert sandbox.read("large", limit=2 * MB) == bytes(2 * MB)
    with pytest.raises(ValueError, match="larger than"):
        sandbox.read("large", limit=2 * MB - 1)
    assert sandbox.read("empty", limit=0) == b""


def test_files_of_proc_have_no_size_and_are_read(sandbox: Bubblewrap) -> None:
    assert sandbox.read("/proc/version").startswith(b"Linux version")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/etc/passwd", PermissionError),
        ("/usr/bin/sh", PermissionError),
        ("/new/folder/file", PermissionError),
        ("secret", PermissionError),
        ("folder", IsADirectoryError),
        ("fifo", ValueError),
        ("zero", ValueError),
        ("sock", ValueError),
        ("a.txt/below", Exception),
        ("shadow", PermissionError),
    ],
)
def test_what_is_no_writable_file_is_refused(
    sandbox: Bubblewrap, path: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        sandbox.write(path, b"x")


def test_writing_replaces_the_content_and_keeps_the_mode(sandbox: Bubblewrap) -> None:
    sandbox.run(shell("printf 'a longer old content' > script; chmod 755 script"))
    sandbox.write("script", b"short")
    assert sandbox.run(shell("cat script; stat -c ' %a' script")).output == b"short 755\n"


def test_writing_more_than_a_file_may_hold_is_refused(sandbox: Bubblewrap) -> None:
    with pytest.raises(ValueError, match="too large"):
        sandbox.write("huge", bytes(20 * MB + 1))
    sandbox.write("huge", bytes(20 * MB))


def test_the_written_file_is_the_tenants(sandbox: Bubblewrap) -> None:
    sandbox.write("new/file", b"x")
    assert sandbox.run(shell("stat -c '%U %a' new new/file")).output == b"agent 755\nagent 644\n"


def test_error_messages_name_the_path_inside(sandbox: Bubblewrap) -> None:
    with pytest.raises(FileNotFoundError, match=r"^/workspace/missing: No such file or directory$"):
        sandbox.read("missing")
