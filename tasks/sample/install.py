"""Build the sample repository: bare, deterministic, the same commit ids everywhere."""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repositories.git.command import git

SOURCE = Path(__file__).parent / "ledgerly"
NAME = "ledgerly.git"
BRANCH = "main"
REVIEW_BRANCH = "rates"


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit of the history: the files it adds or changes, by path."""

    branch: str
    author: str
    date: int
    """Seconds since 1970, in UTC."""
    message: str
    files: dict[str, bytes]


def install_sample(folder: Path) -> Path:
    """Return ``folder/ledgerly.git``, made if it is not there. Raises GitFailed.

    What is there already is left alone: branches may have been pushed to it.
    """
    place = folder / NAME
    if (place / "HEAD").exists():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".ledgerly-", dir=folder))
    try:
        _build(made / NAME)
        # Several processes may get here at once; a rename lets one of them win.
        (made / NAME).rename(place)
    except FileExistsError:
        pass
    except OSError:
        if not (place / "HEAD").exists():
            raise
    finally:
        shutil.rmtree(made)
    return place


def history() -> list[Commit]:
    """Return the commits, oldest first."""
    entries = tomllib.loads((SOURCE / "history.toml").read_text())["commit"]
    return [_commit(entry) for entry in entries]


def _commit(entry: dict[str, Any]) -> Commit:
    root = SOURCE / entry["folder"]
    files = {
        path.relative_to(root).as_posix().removesuffix(".txt"): path.read_bytes()
        for path in sorted(root.rglob("*.txt"))
    }
    return Commit(entry["branch"], entry["author"], entry["date"], entry["message"], files)


def _build(place: Path) -> None:
    git(
        "init",
        "--quiet",
        "--bare",
        "--template=",
        f"--initial-branch={BRANCH}",
        str(place),
        git_dir=None,
    )
    git("fast-import", "--quiet", "--date-format=raw", git_dir=place, stdin=b"".join(_stream()))


def _stream() -> Iterator[bytes]:
    """Yield the history as git's fast-import reads it."""
    tips: dict[str, int] = {}
    for mark, commit in enumerate(history(), 1):
        yield f"commit refs/heads/{commit.branch}\nmark :{mark}\n".encode()
        for role in ("author", "committer"):
            yield f"{role} {commit.author} {commit.date} +0000\n".encode()
        yield _data(f"{commit.message}\n".encode())
        start = tips.get(commit.branch, tips.get(BRANCH))
        if start is not None:
            yield f"from :{start}\n".encode()
        for path, content in commit.files.items():
            yield f"M 100644 inline {path}\n".encode() + _data(content)
        tips[commit.branch] = mark


def _data(content: bytes) -> bytes:
    return f"data {len(content)}\n".encode() + content + b"\n"
