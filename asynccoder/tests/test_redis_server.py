"""The embedded Redis listens where every process of the data folder looks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from asynccoder import redis_server
from asynccoder.tests.processes import answers, running_redis


def test_the_socket_of_a_short_folder_is_inside_it(tmp_path: Path) -> None:
    assert redis_server.socket_path(Path("/srv/var")) == Path("/srv/var/redis.sock")


def test_the_socket_of_a_long_folder_fits_into_an_address() -> None:
    deep = Path("/srv") / ("x" * 100) / "var"
    path = redis_server.socket_path(deep)
    assert len(str(path)) <= redis_server.SOCKET_PATH_MAX
    assert path == redis_server.socket_path(deep)
    assert path != redis_server.socket_path(deep / "other")


@pytest.mark.parametrize("name", ["plain", "with space", "x" * 120])
def test_a_server_starts_in_any_folder_and_keeps_others_out(tmp_path: Path, name: str) -> None:
    var_dir = tmp_path / name
    with running_redis(var_dir) as url:
        assert answers(url)
        socket = redis_server.socket_path(var_dir)
        assert socket.stat().st_mode & 0o077 == 0
        assert socket.parent.stat().st_mode & 0o077 == 0
    assert not answers(url)


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "redis").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="not a folder of this user"):
        redis_server.prepare(tmp_path / "var")
