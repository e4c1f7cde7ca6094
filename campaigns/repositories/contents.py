"""Upstreams whose commits are hostile, served over HTTP by git's own server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from asynccoder.lib.errors import AppError
from campaigns.repositories import tenant
from campaigns.repositories.vector import CHECKED, Outcome, Vector, plainly
from repositories import connect, git
from repositories.tests.forged import Forge, exponential, nested
from repositories.tests.git_server import serving
from repositories.tests.make import commit_upstream, make_upstream, plain_git, write
from repositories.tests.rogue_server import lying, serving_files, upstream

TREE = "a tree is measured before it is written"
NO_SUBMODULES = "submodules are never followed"
NO_FILTERS = "no filter is known to the host's git"
AS_LINKS = "links are never followed on the host"
CANARY = "canary-of-the-host"
MIB = 1024**2
RESERVED = {
    ".git": ".git", ".GIT": ".GIT", "git~1": "git~1", ".git and a space": ".git ", "..": "..", ".": ".",
    ".git with an ignorable letter": ".g\u200cit", ".git of another stream": ".git::$INDEX_ALLOCATION",
}  # fmt: skip
MODULES = {
    "a URL that is an option": "[submodule \"m\"]\n\tpath = m\n\turl = --upload-pack=touch\n",
    "a URL with a line end": "[submodule \"m\"]\n\tpath = m\n\turl = \"https://x/a%0ahost=y\"\n",
    "a path that is an option": "[submodule \"m\"]\n\tpath = -x\n\turl = ./\n",
    "a name that leads out": "[submodule \"../../m\"]\n\tpath = m\n\turl = ./\n",
    "a command to update by": "[submodule \"m\"]\n\tpath = m\n\turl = ./\n\tupdate = !touch x\n",
}  # fmt: skip


@dataclass
class Served:
    """A work repository whose bare copy is on a server that asks for the tenant's token."""

    folder: Path
    work: Path
    bare: Path
    address: str

    def publish(self) -> None:
        # Copied as it is: a push would be checked.
        plain_git("fetch", "-q", "--force", "--update-head-ok", str(self.work), "+refs/heads/*:refs/heads/*",
                  cwd=self.bare)  # fmt: skip

    def forge(self, make: Callable[[Forge], str]) -> None:
        """Put a commit of forged objects on the main branch, past git's checks."""
        forge = Forge()
        commit = forge.commit(make(forge), plain_git("rev-parse", "main", cwd=self.bare))
        plain_git("index-pack", "--stdin", cwd=self.bare, stdin=forge.pack())
        (self.bare / "packed-refs").unlink(missing_ok=True)
        write(self.bare, {"refs/heads/main": f"{commit}\n"})

    def plain_clone(self, *options: str, name: str = "control") -> str:
        """Clone as a careless person would; return what git says."""
        flags = " ".join(options)
        return plainly(
            f"git {flags} http://ada:{tenant.TOKEN}@{self.address}/app.git {name}", self.folder
        )


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Served]:
    work = make_upstream(folder / "work")
    bare = folder / "served/app.git"
    plain_git("clone", "-q", "--bare", str(work), str(bare), cwd=folder)
    with serving(folder / "served") as server:
        server.password = tenant.TOKEN
        yield Served(folder, work, bare, server.address)


def vectors() -> Iterator[Vector]:
    for what, name in RESERVED.items():
        yield Vector(f"fetch: a folder named {what}", CHECKED, partial(_reserved, name))
    for what, text in MODULES.items():
        yield Vector(f"fetch: .gitmodules with {what}", CHECKED, partial(_modules, text))
    yield Vector("fetch: .gitmodules that is a link", CHECKED, _modules_link)
    yield Vector("fetch: a tree of ten billion files", TREE, _exponential)
    yield Vector("fetch: 2.5 GB of files in 220 KB", TREE, _large_tree)
    yield Vector("fetch: folders nested 200 deep", TREE, _deep)
    yield Vector("fetch: a submodule on a server that listens", NO_SUBMODULES, _submodule)
    yield Vector("fetch: a submodule that is another tenant's folder", NO_SUBMODULES, _local_module)
    yield Vector("fetch: .lfsconfig that sends LFS elsewhere", NO_FILTERS, _lfs)
    yield Vector("fetch: links to a file and a folder of the host", AS_LINKS, _links)
    yield Vector("fetch: objects of a server without git", CHECKED, _plain_files)


def _refused(here: Served) -> str:
    return "" if tenant.refused_at(here.address) else "it was taken"


def _reserved(name: str, folder: Path) -> Outcome:
    with served(folder) as here:
        here.forge(lambda f: f.tree(("40000", name, f.tree(("100644", "config", f.blob())))))
        got = _refused(here)
        here.plain_clone("clone", "--bare")
    return Outcome(got, _has_main(folder / "control"))


def _has_main(repository: Path) -> bool:
    return "refs/heads/main" in plainly("git for-each-ref", repository)


def _modules(text: str, folder: Path) -> Outcome:
    with served(folder) as here:
        commit = plain_git("rev-parse", "main", cwd=here.bare)
        here.forge(
            lambda f: f.tree(
                ("100644", ".gitmodules", f.blob(text.encode())), ("160000", "m", commit)
            )
        )
        got = _refused(here)
        here.plain_clone("clone", "--bare")
    return Outcome(got, _has_main(folder / "control"))


def _modules_link(folder: Path) -> Outcome:
    with served(folder) as here:
        here.forge(lambda f: f.tree(("120000", ".gitmodules", f.blob(b"../x"))))
        got = _refused(here)
        here.plain_clone("clone", "--bare")
    return Outcome(got, _has_main(folder / "control"))


def _exponential(folder: Path) -> Outcome:
    with served(folder) as here:
        here.forge(lambda forge: exponential(forge, ""))
        got = _refused(here)
        said = plainly("git ls-tree -r main | head -n 200000 | wc -l", here.bare)
    return Outcome(got, said.strip() == "200000")


def _large_tree(folder: Path) -> Outcome:
    with served(folder) as here:

        def tree(forge: Forge) -> str:
            zeroes = forge.blob(b"\0" * (50 * MIB))
            return forge.tree(*(("100644", f"f{number:02}", zeroes) for number in range(50)))

        here.forge(tree)
        got = _refused(here)
        said = plainly("git archive main | head -c 300000000 | wc -c", here.bare)
    return Outcome(got, said.strip() == "300000000")


def _deep(folder: Path) -> Outcome:
    with served(folder) as here:
        here.forge(lambda forge: nested(200)(forge, ""))
        got = _refused(here)
        here.plain_clone("clone")
    return Outcome(got, (folder / "control" / "/".join("d" * 200) / "x").is_file())


def _submodule(folder: Path) -> Outcome:
    with lying(upstream({"HEAD": "1" * 40})) as trap, served(folder) as here:
        _add_module(here, trap.url("m.git"))
        tenant.work_on(tenant.connected(here.address))
        got = "the submodule's server was called" if trap.seen else ""
        here.plain_clone("clone", "--recurse-submodules")
        return Outcome(got, bool(trap.seen))


def _local_module(folder: Path) -> Outcome:
    other = make_upstream(folder / "other-tenant", {"private.txt": CANARY})
    with served(folder) as here:
        head = plain_git("rev-parse", "HEAD", cwd=other)
        _add_module(here, f"file://{other}", head)
        repository = tenant.connected(here.address)
        base = tenant.base_of(repository, tenant.work_on(repository))
        got = "another tenant's file was read" if list(base.glob("m/*")) else ""
        here.plain_clone("-c protocol.file.allow=always", "clone", "--recurse-submodules")
    return Outcome(got, (folder / "control/m/private.txt").is_file())


def _add_module(here: Served, url: str, commit: str = "1" * 40) -> None:
    write(here.work, {".gitmodules": f'[submodule "m"]\n\tpath = m\n\turl = {url}\n'})
    plain_git("add", ".gitmodules", cwd=here.work)
    plain_git("update-index", "--add", "--cacheinfo", f"160000,{commit},m", cwd=here.work)
    plain_git("commit", "-qm", "module", cwd=here.work)
    here.publish()


def _lfs(folder: Path) -> Outcome:
    with lying(upstream({"HEAD": "1" * 40})) as trap, served(folder) as here:
        commit_upstream(here.work, {
            ".lfsconfig": f"[lfs]\n\turl = {trap.url('lfs')}\n", "big.bin": "version https://git-lfs.github.com/spec/v1\n",
            ".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs\n",
        })  # fmt: skip
        here.publish()
        tenant.work_on(tenant.connected(here.address))
        got = "the address in .lfsconfig was called" if trap.seen else ""
        # It stands for git-lfs, which asks the address that the tree names.
        smudge = 'git ls-remote "$(git config --blob HEAD:.lfsconfig lfs.url)"'
        here.plain_clone(f"-c filter.lfs.smudge='{smudge}'", "clone")
        return Outcome(got, bool(trap.seen))


def _links(folder: Path) -> Outcome:
    secret = folder / "secret"
    secret.mkdir()
    (secret / "key").write_text(CANARY)
    owner = secret.stat()
    with served(folder) as here:
        (here.work / "inside").symlink_to(secret)
        (here.work / "absolute").symlink_to(secret / "key")
        commit_upstream(here.work, {})
        here.publish()
        repository = tenant.connected(here.address)
        head = tenant.work_on(repository)
        mirror = connect.mirror_path(repository)
        shown = [
            git.show_file(mirror, head, path, max_bytes=1000) or b""
            for path in ("inside/key", "absolute")
        ]
        here.plain_clone("clone")
    after = secret.stat()
    read = CANARY.encode() in b"".join(shown) or list(secret.iterdir()) != [secret / "key"]
    touched = (owner.st_uid, owner.st_mtime) != (after.st_uid, after.st_mtime)
    got = "a link was followed" if read or touched else ""
    return Outcome(got, (folder / "control/inside/key").read_text() == CANARY)


def _plain_files(folder: Path) -> Outcome:
    with served(folder) as here:
        here.forge(lambda f: f.tree(("40000", "..", f.tree(("100644", "config", f.blob())))))
        plain_git("update-server-info", cwd=here.bare)
        with serving_files(folder / "served") as address:
            try:
                tenant.work_on(tenant.connected(address, secret=""))
                got = "it was taken"
            except AppError as error:
                got = "" if "unchecked" in str(error) else f"refused otherwise: {error}"
            url = f"http://{address}/app.git"
            plainly(f"git -c transfer.fsckObjects=true clone --bare {url} control", folder)
    return Outcome(got, _has_main(folder / "control"))
