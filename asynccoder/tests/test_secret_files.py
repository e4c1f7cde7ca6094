from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asynccoder.lib import secret_files


def test_a_secret_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "jwt_secret"
    with ThreadPoolExecutor(20) as pool:
        found = set(pool.map(lambda _: secret_files.kept(path, length=48), range(20)))
    assert len(found) == 1
    assert len(found.pop()) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_a_secret_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("mine\n")
    assert secret_files.kept(path, length=48) == "mine"
    assert secret_files.kept(tmp_path / "other", length=48) != "mine"
