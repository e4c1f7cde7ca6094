"""Fetching and pushing over the wire: a real git server that can misbehave."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynccoder.tests.processes import wait_for
from repositories import git
from repositories.git.command import Call, command_line, environment
from repositories.tests.git_server import GitServer, make_certificate, serving
from repositories.tests.make import commit_upstream, make_upstream, plain_git

MIB = 1024**2
SECRET = "s3cret-canary/with:odd+chars"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    make_upstream(tmp_path / "work")
    plain_git(
        "clone",
        "-q",
        "--bare",
        str(tmp_path / "work"),
        str(tmp_path / "served/app.git"),
        cwd=tmp_path,
    )
    with serving(tmp_path / "served") as served:
        yield served


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "var" / "mirror.git"


def remote(server: GitServer, *, secret: str = "", name: str = "app.git") -> git.Remote:
    credential = git.Credential("ada", secret) if secret else None
    return git.Remote(server.url(name), credential, "127.0.0.1", is_plain_http_allowed=True)


def fetch(
    mirror: Path, source: git.Remote, *, max_bytes: int = 50 * MIB, timeout: float = 30
) -> None:
    git.ensure_mirror(mirror, source, max_bytes=max_bytes, timeout=timeout)


def grow(server: GitServer, tmp_path: Path, files: dict[str, str | bytes | None]) -> str:
    commit = commit_upstream(tmp_path / "work", files)
    plain_git("push", "-q", str(server.root / "app.git"), "main", cwd=tmp_path / "work")
    return commit


def test_first_fetch_and_later_ones(server: GitServer, mirror: Path, tmp_path: Path) -> None:
    fetch(mirror, remote(server))
    assert git.default_branch(mirror) == "main"
    commit = grow(server, tmp_path, {"more.txt": "x"})
    plain_git("branch", "side", cwd=server.root / "app.git")
    fetch(mirror, remote(server))
    assert git.resolve_commit(mirror, "main") == commit
    assert git.list_branches(mirror) == [git.Branch("main", commit), git.Branch("side", commit)]


def test_branch_deleted_upstream_is_gone(server: GitServer, mirror: Path) -> None:
    plain_git("branch", "side", cwd=server.root / "app.git")
    fetch(mirror, remote(server))
    plain_git("branch", "-D", "side", cwd=server.root / "app.git")
    plain_git(
        "branch",
        "side/deeper",
        cwd=server.root / "app.git",
    )
    fetch(mirror, remote(server))
    assert [branch.name for branch in git.list_branches(mirror)] == ["main", "side/deeper"]


def test_history_rewritten_upstream_is_followed(
    server: GitServer, mirror: Path, tmp_path: Path
) -> None:
    fetch(mirror, remote(server))
    old = git.resolve_commit(mirror, "main")
    plain_git("commit", "-q", "--amend", "-m", "other", cwd=tmp_path / "work")
    plain_git("push", "-qf", str(server.root / "app.git"), "main", cwd=tmp_path / "work")
    fetch(mirror, remote(server))
    assert git.resolve_commit(mirror, "main") != old
    assert git.show_file(mirror, old, "README.md", max_bytes=100) == b"# Sample\n"


def test_progress_is_told(server: GitServer, mirror: Path) -> None:
    told: list[str] = []
    git.ensure_mirror(mirror, remote(server), max_bytes=MIB, on_progress=told.append)
    assert told[-1].endswith("100%")


def test_credential_opens_and_is_kept_nowhere(server: GitServer, mirror: Path) -> None:
    server.password = SECRET
    fetch(mirror, remote(server, secret=SECRET))
    assert git.default_branch(mirror) == "main"
    held = [
        path
        for path in mirror.rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]
    assert held == []


def test_credential_is_in_no_argument(server: GitServer, tmp_path: Path) -> None:
    server.password, server.hang = SECRET, threading.Event()
    asking = threading.Thread(target=lambda: git.remote_heads(remote(server, secret=SECRET)))
    asking.start()
    wait_for(lambda: server.seen, what="the server is asked")
    shown = subprocess.run(["ps", "-eo", "args", "-ww"], capture_output=True, check=True).stdout
    server.hang.set()
    asking.join()
    assert b"ls-remote" in shown
    for form in (SECRET.encode(), base64.b64encode(f"ada:{SECRET}".encode())):
        assert form not in shown
    assert SECRET not in repr(remote(server, secret=SECRET))


@pytest.mark.parametrize("secret", ["", "wrong-canary"])
def test_wrong_credential_is_its_own_error(server: GitServer, mirror: Path, secret: str) -> None:
    server.password = SECRET
    with pytest.raises(git.AuthenticationFailed) as caught:
        fetch(mirror, remote(server, secret=secret))
    for text in (str(caught.value), caught.value.detail):
        assert "wrong-canary" not in text
        assert str(mirror) not in text
    assert not mirror.exists()


def test_missing_repository(server: GitServer, mirror: Path) -> None:
    with pytest.raises(git.CloneFailed, match="no git repository"):
        fetch(mirror, remote(server, name="other.git"))


def test_unreachable_server(mirror: Path) -> None:
    closed = git.Remote("http://127.0.0.1:9/app.git", is_plain_http_allowed=True)
    with pytest.raises(git.CloneFailed, match="could not be reached"):
        fetch(mirror, closed)


def test_server_error(server: GitServer, mirror: Path) -> None:
    server.status = 503
    with pytest.raises(git.CloneFailed, match="could not be reached"):
        fetch(mirror, remote(server))


def test_redirect_is_not_followed_and_gets_no_credential(
    server: GitServer, mirror: Path, tmp_path: Path
) -> None:
    with serving(tmp_path / "served") as trap:
        server.redirect_to = f"http://{trap.address}"
        with pytest.raises(git.CloneFailed, match="redirect"):
            fetch(mirror, remote(server, secret=SECRET))
        assert trap.seen == []
        plain_git(
            "-c", "http.followRedirects=true", "ls-remote", server.url("app.git"), cwd=tmp_path
        )
        assert trap.seen != []


def test_pinned_address_is_where_the_call_goes(server: GitServer, mirror: Path) -> None:
    url = f"http://git.example.invalid:{server.port}/app.git"
    fetch(mirror, git.Remote(url, None, "127.0.0.1", is_plain_http_allowed=True))
    assert git.default_branch(mirror) == "main"
    with pytest.raises(git.CloneFailed):
        git.remote_heads(git.Remote(url, None, "", is_plain_http_allowed=True))


def test_https_goes_to_the_pinned_address_and_knows_the_host(
    server: GitServer, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path, "git.example.test")
    with serving(server.root, certificate=certificate) as secure:
        secure.password = SECRET
        good, other = (
            git.Remote(
                f"https://{host}.example.test:{secure.port}/app.git",
                git.Credential("ada", SECRET),
                "127.0.0.1",
            )
            for host in ("git", "other")
        )
        with pytest.raises(git.CloneFailed, match="certificate"):
            fetch(mirror, good)
        monkeypatch.setenv("GIT_SSL_CAINFO", str(certificate))
        with pytest.raises(git.CloneFailed, match="certificate"):
            fetch(mirror, other)
        assert secure.seen == [], "no credential is sent before the host is known"
        fetch(mirror, good)
    assert git.default_branch(mirror) == "main"


def test_silent_server_is_left(
    server: GitServer, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.hang = threading.Event()
    monkeypatch.setattr("repositories.git.mirror.CONTACT_SECONDS", 0.5)
    with pytest.raises(git.CloneFailed, match="too long"):
        fetch(mirror, remote(server))


def test_repository_over_the_limit_is_refused_and_removed(
    server: GitServer, mirror: Path, tmp_path: Path
) -> None:
    grow(server, tmp_path, {"noise.bin": os.urandom(8 * MIB)})
    with pytest.raises(git.RepositoryTooLarge):
        fetch(mirror, remote(server), max_bytes=4 * MIB)
    assert not mirror.exists()
    assert list(mirror.parent.glob(".*.new")) == []
    fetch(mirror, remote(server), max_bytes=40 * MIB)


def test_growing_over_the_limit_keeps_what_was_there(
    server: GitServer, mirror: Path, tmp_path: Path
) -> None:
    fetch(mirror, remote(server), max_bytes=4 * MIB)
    before = git.list_branches(mirror)
    grow(server, tmp_path, {"noise.bin": os.urandom(8 * MIB)})
    with pytest.raises(git.RepositoryTooLarge):
        fetch(mirror, remote(server), max_bytes=4 * MIB)
    assert git.list_branches(mirror) == before
    assert git.disk_use(mirror) < 4 * MIB


def test_empty_repository(server: GitServer, mirror: Path, tmp_path: Path) -> None:
    plain_git("init", "-q", "--bare", str(server.root / "empty.git"), cwd=tmp_path)
    with pytest.raises(git.RepositoryEmpty):
        fetch(mirror, remote(server, name="empty.git"))


@pytest.mark.parametrize(
    "branch", ["absent", "--upload-pack=touch", "main..main", "", "refs/heads/main", "HEAD", "@"]
)
def test_missing_branch(server: GitServer, mirror: Path, branch: str) -> None:
    fetch(mirror, remote(server))
    with pytest.raises(git.BranchMissing):
        git.resolve_commit(mirror, branch)


def test_half_made_mirror_is_made_again(server: GitServer, mirror: Path) -> None:
    building = mirror.with_name(f".{mirror.name}.new")
    (building / "objects/pack").mkdir(parents=True)
    (building / "objects/pack/tmp_pack_x").write_bytes(b"half")
    fetch(mirror, remote(server))
    assert not building.exists()
    assert git.default_branch(mirror) == "main"


@pytest.mark.parametrize("damage", ["locks", "no head", "no objects", "broken pack"])
def test_damaged_mirror_recovers(server: GitServer, mirror: Path, damage: str) -> None:
    fetch(mirror, remote(server))
    if damage == "locks":
        for name in ("HEAD.lock", "packed-refs.lock", "refs/remotes/origin/main.lock"):
            (mirror / name).touch()
        plain_git("branch", "side", cwd=server.root / "app.git")
    elif damage == "no head":
        (mirror / "HEAD").unlink()
    elif damage == "no objects":
        shutil.rmtree(mirror / "objects")
    else:
        for path in [*mirror.rglob("*.pack"), *(mirror / "objects").glob("??/*")]:
            path.chmod(0o644)
            path.write_bytes(b"broken")
    fetch(mirror, remote(server))
    commit = git.resolve_commit(mirror, "main")
    assert git.show_file(mirror, commit, "README.md", max_bytes=100) == b"# Sample\n"


FETCH = """
import sys
from pathlib import Path
from repositories import git
source = git.Remote(sys.argv[2], None, "127.0.0.1", is_plain_http_allowed=True)
git.ensure_mirror(Path(sys.argv[1]), source, max_bytes=50_000_000)
"""


def start_fetch(mirror: Path, server: GitServer) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", FETCH, str(mirror), server.url("app.git")])


def test_two_processes_fetch_one_mirror(server: GitServer, mirror: Path) -> None:
    workers = [start_fetch(mirror, server) for _ in range(3)]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0, 0]
    assert git.default_branch(mirror) == "main"


def test_killed_fetch_leaves_nothing_in_the_way(server: GitServer, mirror: Path) -> None:
    server.hang = threading.Event()
    with start_fetch(mirror, server) as worker:
        wait_for(lambda: server.seen, what="the server is asked")
        worker.kill()
    server.hang.set()
    server.hang = None
    fetch(mirror, remote(server))
    assert git.default_branch(mirror) == "main"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/x.git", "ext::sh -c touch% marker", "file:///tmp", "git://127.0.0.1/x",
     "ssh://-oProxyCommand=x/y", "ftp://127.0.0.1/x", "--upload-pack=touch", "", "https//x"],
)  # fmt: skip
def test_other_kinds_of_address_are_refused(mirror: Path, url: str) -> None:
    with pytest.raises(git.CloneFailed):
        fetch(mirror, git.Remote(url))


def test_nothing_of_the_worker_reaches_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "canary")
    monkeypatch.setenv("GIT_SSH_COMMAND", "canary")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.editor=canary'")
    assert "canary" not in repr(environment({}))
    assert "canary" not in repr(command_line(Call(args=["status"])))
