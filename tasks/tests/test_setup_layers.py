"""What a setup made is kept and used again: with overlays, and where each run gets a copy."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from repositories import git
from repositories.tests.make import commit_upstream, make_upstream
from tasks import layers, workspace
from tasks.errors import SetupFailed
from tasks.lease import Claim
from tasks.sandbox.base import Command
from tasks.workspace import Origin, RunWorkspace, Setup

FILES: dict[str, str | bytes] = {
    "app.py": "one = 1\n",
    "requirements.txt": "x==1\n",
    ".gitignore": "ignored/\n",
}
SET_UP = (
    "mkdir -p ignored ~/.cache/tool && echo kept > ignored/it && ln -s it ignored/link"
    " && echo made > made.txt && echo home > ~/.cache/tool/it && echo run >> $HOME/runs"
    " && printf '#!/bin/sh\\necho tool' > ignored/tool && chmod 755 ignored/tool"
)
LOOK = "cat ignored/link made.txt ~/.cache/tool/it && ignored/tool && wc -l < ~/runs"
SEEN = "kept\nmade\nhome\ntool\n1\n"


@dataclass
class Yard:
    """One repository, and runs on it without a database."""

    folder: Path
    upstream: Path
    command: str = SET_UP
    said: list[str] = field(default_factory=list)

    @property
    def setups(self) -> Path:
        return self.folder / "setups"

    def commit(self, files: dict[str, str | bytes | None]) -> None:
        commit_upstream(self.upstream, files)

    @contextmanager
    def run(self, *, command: str = "") -> Iterator[RunWorkspace]:
        """Open a run's workspace on the newest commit, in the way that the runner does."""
        mirror = self.folder / "mirror.git"
        git.ensure_mirror(mirror, git.Remote(str(self.upstream)), max_bytes=10**8)
        origin = Origin(mirror, git.resolve_commit(mirror, "main"), self.folder / "bases")
        run = RunWorkspace(Claim(uuid.uuid4(), 1), origin, is_read_only=False)
        run.setup = Setup(command or self.command, self.setups, self.said.append)
        run.prepare()
        try:
            run.sandbox.__enter__()
            yield run
        finally:
            run.close()

    def setups_run(self) -> int:
        return sum(line.startswith("Setup done in") for line in self.said)

    def kept(self) -> list[str]:
        return sorted(path.name for path in self.setups.glob("[0-9a-f]*") if path.is_dir())


def shell(run: RunWorkspace, script: str) -> str:
    result = run.sandbox.run(Command(["bash", "-c", script]))
    assert result.exit_code == 0, result.text
    return result.text


def changed(run: RunWorkspace) -> dict[str, str]:
    """Checkpoint, and return what differs from the base."""
    run.checkpoint(run.head)
    files = git.changed_files(run.store, run.origin.commit, run.head)
    return {file.path: file.status for file in files}


@pytest.fixture(params=["overlay", "copy"])
def yard(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    if request.param == "copy":
        monkeypatch.setattr(workspace, "overlays_work", lambda: False)
    elif not workspace.overlays_work():
        pytest.skip("no overlays here")
    return Yard(tmp_path / "repository", make_upstream(tmp_path / "upstream", FILES))


def test_the_second_run_finds_what_the_first_one_set_up(yard: Yard) -> None:
    for _ in range(2):
        with yard.run() as run:
            assert shell(run, LOOK) == SEEN
            assert changed(run) == {}
    assert yard.said[0].startswith("Setup done in ")
    assert yard.said[1] == f"Setup not run: its kept result is used: {SET_UP}"
    assert len(yard.kept()) == 1


def test_what_a_run_does_to_it_is_not_seen_by_the_next(yard: Yard) -> None:
    with yard.run() as run:
        shell(run, "rm -r ignored; echo bad > made.txt; rm -r ~/.cache; touch ignored")
        assert changed(run) == {"ignored": "added", "made.txt": "added"}
    with yard.run() as run:
        assert shell(run, LOOK) == SEEN
    assert yard.setups_run() == 1


def test_another_commit_with_the_same_lock_files_uses_it_and_keeps_its_own_files(
    yard: Yard,
) -> None:
    # A tracked file that is only written again lies in the overlay, too.
    touched = f"{SET_UP} && cp app.py x && cat x > app.py && rm x"
    with yard.run(command=touched):
        pass
    yard.commit({"app.py": "one = 2\n", "new.py": "new\n"})
    with yard.run(command=touched) as run:
        assert shell(run, f"{LOOK} && cat app.py new.py") == f"{SEEN}one = 2\nnew\n"
        assert changed(run) == {}
        shell(run, "echo more >> app.py")
        assert changed(run) == {"app.py": "modified"}


def test_the_same_lock_files_are_not_set_up_again(yard: Yard) -> None:
    with yard.run():
        pass
    yard.commit({"app.py": "one = 2\n", "docs/x.md": "x\n"})
    with yard.run() as run:
        assert shell(run, f"{LOOK} && cat app.py") == f"{SEEN}one = 2\n"
    assert (yard.setups_run(), len(yard.kept())) == (1, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"requirements.txt": "x==2\n"},
        {"deep/er/package-lock.json": "{}\n"},
        {"requirements.txt": None},
        {".gitignore": "ignored/\nmore/\n"},
    ],
)
def test_other_lock_files_are_set_up_anew(
    yard: Yard, change: dict[str, str | bytes | None]
) -> None:
    with yard.run():
        pass
    yard.commit(change)
    with yard.run() as run:
        assert shell(run, LOOK) == SEEN
    assert yard.setups_run() == 2


def test_another_command_is_run(yard: Yard) -> None:
    for command in (SET_UP, f"{SET_UP} # again"):
        with yard.run(command=command) as run:
            assert shell(run, LOOK) == SEEN
    assert yard.setups_run() == 2


def test_a_script_that_the_command_names_counts_as_a_lock_file(yard: Yard) -> None:
    yard.commit({"tools/setup.sh": "echo 1 > made.txt\n"})
    seen = []
    for text in ("echo 1 > made.txt\n", "echo 2 > made.txt\n"):
        yard.commit({"tools/setup.sh": text, "app.py": f"# {text}"})
        with yard.run(command="bash ./tools/setup.sh") as run:
            seen.append(shell(run, "cat made.txt"))
    assert seen == ["1\n", "2\n"]


def test_without_a_lock_file_it_is_the_trees_own(yard: Yard) -> None:
    yard.commit({"requirements.txt": None})
    for text in ("one = 2\n", "one = 3\n", "one = 2\n"):
        yard.commit({"app.py": text})
        with yard.run() as run:
            assert shell(run, LOOK) == SEEN
    assert yard.setups_run() == 2


def test_a_setup_that_changes_tracked_files_is_each_commits_own(yard: Yard) -> None:
    command = f"{SET_UP} && echo '# set up' >> app.py"
    for number in (1, 2):
        yard.commit({"app.py": f"one = {number}\n"})
        for _ in range(2):
            with yard.run(command=command) as run:
                assert shell(run, f"{LOOK} && cat app.py") == f"{SEEN}one = {number}\n# set up\n"
                assert changed(run) == {}
    assert yard.setups_run() == 2


@pytest.mark.parametrize("path", ["made.txt", "made.txt/inner.txt", "ignored"])
def test_a_path_that_another_commit_tracks_is_never_covered(yard: Yard, path: str) -> None:
    command = "mkdir -p ignored; echo made 2>/dev/null > made.txt; true"
    with yard.run(command=command):
        pass
    yard.commit({path: "tracked\n"})
    with yard.run(command=f"{command}") as run:
        assert shell(run, f"git show HEAD:{path}") == "tracked\n"
        assert shell(run, f"test -e {path} && echo there") == "there\n"
        assert changed(run) == {}
    assert yard.setups_run() == 2


def test_a_setup_that_removes_and_replaces_is_repeated_exactly(yard: Yard) -> None:
    yard.commit({"old/a.txt": "a\n", "file.txt": "x\n"})
    command = "rm -r old && echo file > old && rm file.txt && mkdir file.txt && echo y > file.txt/y"
    for _ in range(2):
        with yard.run(command=command) as run:
            assert shell(run, "cat old file.txt/y; ls -A | sort | tr '\\n' ' '") == (
                "file\ny\n.git .gitignore app.py file.txt old requirements.txt "
            )
            assert changed(run) == {}
    assert yard.setups_run() == 1


def test_a_lost_sandbox_comes_back_with_it_and_with_the_checkpoint(yard: Yard) -> None:
    with yard.run() as run:
        shell(run, "echo mine >> made.txt; echo two >> app.py")
        before = changed(run)
        run.reset(run.head)
        assert shell(run, "cat made.txt ignored/it app.py") == "made\nmine\nkept\none = 1\ntwo\n"
        assert changed(run) == before == {"app.py": "modified", "made.txt": "added"}


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (f"{SET_UP}; exit 3", "exit code 3"),
        (f"{SET_UP}; sleep 60", "longer than 2 s"),
        (f"{SET_UP}; python3 -c 'x = bytearray(900_000_000); input()' </dev/zero", "memory|ended"),
        (f"{SET_UP}; head -c 90000000 /dev/zero > big; sleep 60", "disk"),
    ],
)
def test_a_setup_that_does_not_come_to_its_end_leaves_nothing(
    yard: Yard, settings: Any, command: str, why: str
) -> None:
    settings.SETUP_SECONDS = 2 if "longer" in why else 60
    settings.SANDBOX_MEMORY_BYTES = 300 * 1024**2
    settings.SANDBOX_DISK_BYTES = 50 * 1024**2
    with pytest.raises(SetupFailed, match=why), yard.run(command=command):
        pass
    assert yard.kept() == []
    assert list(yard.setups.glob("*.stamp")) == []
    assert list((Path(settings.VAR_DIR) / "tasks").glob("*/layers-*")) == []


def test_two_runs_that_set_up_at_once_both_have_it(yard: Yard) -> None:
    seen: list[str] = []
    both = threading.Barrier(2)

    def go() -> None:
        both.wait()
        with yard.run(command=f"{SET_UP} && sleep 1") as run:
            seen.append(shell(run, LOOK))

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [SEEN, SEEN]
    assert len(yard.kept()) == 1


def test_what_a_setup_does_to_the_repository_itself_is_not_kept(yard: Yard) -> None:
    command = f"{SET_UP} && git config x.y z && rm -rf .git && ln -s / .git"
    for _ in range(2):
        with yard.run(command=command) as run:
            assert shell(run, f"{LOOK}; git log --oneline | wc -l; git config x.y || true") == (
                f"{SEEN}1\n"
            )
    assert yard.setups_run() == 1


def test_hostile_files_of_a_setup_harm_nobody(yard: Yard) -> None:
    deep = "/".join(["d" * 100] * 30)
    command = (
        f"{SET_UP} && mkfifo ignored/pipe && ln -s /etc/passwd ignored/passwd && mkdir shut"
        f" && echo x > shut/x && chmod 0 shut && mkdir -p ignored/{deep} && touch -- -rf --help"
        " && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"ignored/s\")'"
    )
    for _ in range(2):
        with yard.run(command=command) as run:
            assert shell(run, LOOK) == SEEN
            assert changed(run) == {}
    removed = layers.prune(yard.setups, keep_bytes=0, idle_seconds=0)
    assert len(removed) == 1
    assert sorted(path.name for path in yard.setups.iterdir()) == ["all.lock"]


def test_the_results_asked_for_longest_ago_go_first(yard: Yard) -> None:
    for number in range(3):
        with yard.run(command=f"{SET_UP} # {number}"):
            pass
        newest = max(yard.setups.glob("*.stamp"), key=lambda stamp: stamp.stat().st_mtime)
        os.utime(newest, (10**9 + number, 10**9 + number))
    stamps = sorted(yard.setups.glob("*.stamp"), key=lambda stamp: stamp.stat().st_mtime)
    size = max(int(stamp.read_text()) for stamp in stamps)
    assert size > 0
    assert layers.prune(yard.setups, keep_bytes=10 * size) == []
    assert layers.prune(yard.setups, keep_bytes=0, idle_seconds=10**12) == []
    assert layers.prune(yard.setups, keep_bytes=2 * size) == [stamps[0].stem]
    assert stamps[0].stem not in yard.kept()
    with yard.run(command=f"{SET_UP} # 0") as run:
        assert shell(run, LOOK) == SEEN
    assert yard.setups_run() == 4


def test_a_run_asks_anew_for_what_it_uses(yard: Yard) -> None:
    with yard.run():
        pass
    (stamp,) = yard.setups.glob("*.stamp")
    os.utime(stamp, (10**9, 10**9))
    with yard.run():
        assert layers.prune(yard.setups, keep_bytes=0) == []
