"""B: how long a workspace takes to be ready, and what it takes of the disk.

Ready means: the warm mirror is asked for news, the task's store is made, and the base tree is
mounted in a sandbox that answers. The yardstick is ``git clone --depth 1`` over ``file://``.
"""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.generated import make_repository
from benchmarks.report import Series, interleave, judge, judge_figure

PACKAGES = ("django", "rest_framework", "openai", "anthropic", "cryptography", "redis", "channels")
DISK_MB = 1.0


def run(*, quick: bool, rounds: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="benchmark-workspace-") as name, _stage():
        Path(name).chmod(0o755)
        size = {"files": 100, "commits": 20} if quick else {"files": 2000, "commits": 3000}
        generated = make_repository(Path(name, "generated.git"), **size)
        goals = _compare(f"generated, {size['commits']} commits", generated, rounds)
        if not quick:
            goals += _compare("installed packages", _packages(Path(name, "packages.git")), rounds)
    return all(goals)


@contextmanager
def _stage() -> Iterator[None]:
    from campaigns.stage import open_stage

    with open_stage(environment={}):
        yield


def _compare(what: str, upstream: Path, rounds: int) -> list[bool]:
    ours = Workspaces(upstream)
    series = interleave(
        {
            f"ours, warm: {what}": lambda: [ours.ready()],
            f"clone --depth 1: {what}": lambda: [ours.clone()],
            f"ours, first time: {what}": lambda: [ours.ready(is_first=True)],
        },
        bench="workspace", rounds=rounds,
    )  # fmt: skip
    for one in series.values():
        one.print()
    for part, values in ours.parts.items():
        Series("workspace", f"ours, warm, {part}: {what}", [values[1:]]).print()
    disk = Series("workspace", f"ours, new disk: {what}", [ours.disk_mb], unit="MB")
    disk.print()
    warm, depth_1, _ = (one.medians() for one in series.values())
    against = "clone --depth 1"
    return [
        judge(f"ready: {what}", warm, depth_1, goal=0.10, against=against),
        judge_figure(f"new disk: {what}", max(ours.disk_mb), goal=DISK_MB, unit="MB"),
    ]


class Workspaces:
    """Makes workspaces of one repository, as a run does, and ordinary clones of it."""

    def __init__(self, upstream: Path) -> None:
        from accounts.models import User
        from repositories import connect

        self.upstream = upstream
        self.disk_mb: list[float] = []
        self.parts: dict[str, list[float]] = {"fetch": [], "mount": []}
        owner, _ = User.objects.get_or_create(username="alice", email="alice@example.com")
        self.repository = connect.connect_repository(
            owner=owner, url=str(upstream), is_operator=True
        )

    def ready(self, *, is_first: bool = False) -> float:
        """Return the milliseconds until a command could run in a new workspace."""
        from repositories import connect

        if is_first:
            shutil.rmtree(connect.mirror_path(self.repository).parent, ignore_errors=True)
        began = time.perf_counter()
        commit = self._fetched()
        fetched = time.perf_counter()
        workspace = self._workspace(commit)
        workspace.prepare()
        workspace.sandbox.__enter__()
        ready = time.perf_counter()
        if not is_first:
            self.parts["fetch"].append(1000 * (fetched - began))
            self.parts["mount"].append(1000 * (ready - fetched))
            self.disk_mb.append(_disk_mb(workspace.folder))
        workspace.close()
        shutil.rmtree(workspace.folder)
        return 1000 * (ready - began)

    def _fetched(self) -> str:
        from repositories import connect

        connect.sync_repository(self.repository)
        return connect.commit_of(self.repository, self.repository.default_branch)

    def _workspace(self, commit: str) -> Any:
        from repositories import connect
        from tasks.lease import Claim
        from tasks.workspace import Origin, RunWorkspace

        mirror, bases = connect.mirror_path(self.repository), connect.bases_path(self.repository)
        claim = Claim(uuid.uuid4(), 1)
        return RunWorkspace(claim, Origin(mirror, commit, bases), is_read_only=False)

    def clone(self) -> float:
        with tempfile.TemporaryDirectory(prefix="benchmark-clone-") as name:
            command = [
                "git",
                "clone",
                "-q",
                "--depth",
                "1",
                f"file://{self.upstream}",
                f"{name}/it",
            ]
            began = time.perf_counter()
            subprocess.run(command, check=True)
            return 1000 * (time.perf_counter() - began)


def _disk_mb(folder: Path) -> float:
    paths = [folder, *folder.rglob("*")]
    return sum(path.lstat().st_blocks * 512 for path in paths) / 1024**2


def _packages(folder: Path) -> Path:
    """Make a repository of the installed packages' sources: real files, with no download."""
    tree = folder.with_name("packages")
    site = Path(sysconfig.get_paths()["purelib"])
    for name in PACKAGES:
        shutil.copytree(site / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    who = ["-c", "user.name=Alice", "-c", "user.email=alice@example.com"]
    git: Callable[..., Any] = lambda *a: subprocess.run(  # noqa: E731 - three calls below
        ["git", *who, "-C", str(tree), *a], check=True
    )
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "Packages")
    subprocess.run(["git", "clone", "-q", "--bare", str(tree), str(folder)], check=True)
    shutil.rmtree(tree)
    return folder
