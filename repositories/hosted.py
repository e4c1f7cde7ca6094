"""Repositories that the platform hosts: projects that a build begins with nothing but a name.

All branches are kept as one bundle in the storage of runs, for every machine; the row names the
bundle, and a conditional UPDATE of that name decides between two tasks that publish at once. A
bundle is written before the row, so that the row names a whole one. Mirrors are caches of it, as
of any other upstream.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import Storage, storages
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import User
from asynccoder.lib.errors import Conflict, NotAllowed, NotFound
from repositories import git
from repositories.errors import (
    BranchNotTaken,
    HostingAway,
    NameRefused,
    OverSize,
    as_failed_run,
)
from repositories.models import Repository
from repositories.names import NAME

logger = logging.getLogger(__name__)

FOLDER = "hosted"
TRIES = 5
"""How often a task that others overtake begins again."""
LOCK_SECONDS = 600.0
PAGE_PATIENCE = 2.0
"""Seconds that a request waits for another that brings the same mirror."""
FOLLOW_SECONDS = 600.0
NOTE = "asynccoder-bundle"
"""In a mirror: the bundle that it has followed last. No name is given out twice."""
COPY, ZIPS = ".bundle-", "downloads"
UNNAMED_SECONDS = timedelta(hours=1)
"""How long a bundle stays that no row names: far longer than its writer needs to name it."""


def named(owner: User, name: str) -> Repository | None:
    """Return the user's own connected repository of this name, or None.

    The full name goes before the short one. Raises NameRefused, Conflict where several share it.
    """
    if not NAME.fullmatch(name):
        raise NameRefused
    own = Repository.objects.active().filter(owner=owner)
    whole: Repository | None = own.filter(full_name=name).first()
    if whole is not None:
        return whole
    found: list[Repository] = list(own.filter(name=name)[:2])
    if len(found) > 1:
        raise Conflict(f"Several of your repositories are called {name}.")
    return found[0] if found else None


def create(owner: User, name: str) -> Repository:
    """Make a new hosted repository, or return the one that somebody made at the same moment.

    Raises NotAllowed, NameRefused, Conflict.
    """
    if not owner.can_work:
        raise NotAllowed("Your role may only read.")
    if not NAME.fullmatch(name):
        raise NameRefused
    try:
        with transaction.atomic():
            made: Repository = Repository.objects.create(
                owner=owner,
                kind=Repository.Kind.HOSTED,
                name=name,
                full_name=name,
                is_private=True,
            )
    except IntegrityError:
        earlier = named(owner, name)
        if earlier is None:
            raise
        return earlier
    return made


def bring_mirror(
    repository: Repository, mirror: Path, *, patience: float = LOCK_SECONDS
) -> list[git.Branch]:
    """Make the mirror say what the row's bundle says; return the branches of that very bundle.

    1. Lock the mirror, for ``patience`` seconds at most: who comes later reads a newer row, so
       that nobody sets a mirror back.
    2. Read the row. A mirror that has followed its bundle already is left as it is.
    3. Else follow a copy of the bundle. One that another machine replaces meanwhile is gone:
       begin again from the row.
    A project in which nothing was built yet has one empty commit. Raises RunFailed's children,
    HostingAway.
    """
    try:
        with git.locked(mirror, seconds=patience):
            _clear_away(mirror)
            for _ in range(TRIES):
                with suppress(FileNotFoundError), as_failed_run():
                    return _followed(repository, mirror)
    except git.MirrorBusy as error:
        raise HostingAway("The project is being fetched; try again.", retry_after=5) from error
    raise HostingAway


def _clear_away(mirror: Path) -> None:
    """Remove the copies that whoever held the lock before was killed over."""
    for leftover in (*mirror.parent.glob(f"{COPY}*"), *mirror.parent.glob(f".{mirror.name}-*")):
        shutil.rmtree(leftover, ignore_errors=True)


def _followed(repository: Repository, mirror: Path) -> list[git.Branch]:
    name, note = _bundle_of(repository), mirror / NOTE
    if not name:
        return _begun(mirror)
    known = _known(mirror, name)
    if known:
        return known
    with _local_copy(name, mirror.parent) as path:
        deadline = time.monotonic() + FOLLOW_SECONDS
        most = settings.REPOSITORY_MAX_BYTES
        fetch = git.Fetch(remote=git.Remote(str(path)), max_bytes=most, deadline=deadline)
        branches = git.follow(mirror, fetch)
    note.write_text(name)
    return branches


def _known(mirror: Path, name: str) -> list[git.Branch]:
    """Return the branches of a mirror that has followed this bundle, and can be read; else none."""
    try:
        is_known = (mirror / NOTE).read_text() == name
        return git.list_branches(mirror) if is_known else []
    except (FileNotFoundError, git.GitFailed):
        return []


def _bundle_of(repository: Repository) -> str:
    repository.refresh_from_db(fields=["hosted_bundle"])
    return repository.hosted_bundle


def _begun(mirror: Path) -> list[git.Branch]:
    if not (mirror / "HEAD").is_file():
        git.create_origin(mirror, {})
    return git.list_branches(mirror)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A task's finished commit, in its store, upon ``base``, which was the tip of ``onto``."""

    store: Path
    base: str
    commit: str
    onto: str
    branch: str
    """Where it goes when ``onto`` has moved on meanwhile."""


def publish(repository: Repository, mirror: Path, work: Work) -> str:
    """Take a task's commit over; return the branch that has it now.

    1. Look first: an earlier try may have done it.
    2. Write a bundle with the commit on ``onto``, or, where that has moved on, on its own branch.
    3. Name it in the row if the row still says what was read; who lost that race begins again.
    Raises RunFailed's children, HostingAway.
    """
    for _ in range(TRIES):
        branches = {one.name: one.commit for one in bring_mirror(repository, mirror)}
        done = _holder(mirror, branches, work)
        if done:
            return done
        target = work.onto if branches.get(work.onto) == work.base else work.branch
        name = _write(repository, branches | {target: work.commit}, work.store)
        if _name_in_row(repository, name):
            return target
    raise HostingAway


def _holder(mirror: Path, branches: dict[str, str], work: Work) -> str:
    if git.absent_commits(mirror, [work.commit]):
        return ""
    for name in (work.onto, work.branch):
        if name in branches and git.is_ancestor(mirror, work.commit, branches[name]):
            return name
    return ""


def _write(repository: Repository, branches: dict[str, str], store: Path) -> str:
    name = f"{FOLDER}/{repository.pk}/{secrets.token_hex(8)}.bundle"
    with tempfile.TemporaryDirectory(dir=store.parent, prefix=".hosted-") as folder:
        path, most = Path(folder) / "all.bundle", settings.REPOSITORY_MAX_BYTES
        head = repository.default_branch
        with as_failed_run():
            git.write_repository(store, branches, path, head=head, max_bytes=most + 1)
        if path.stat().st_size > most:
            raise OverSize
        with _as_away(), path.open("rb") as file:
            return str(_storage().save(name, File(file)))


def _name_in_row(repository: Repository, name: str) -> bool:
    before = repository.hosted_bundle
    rows = Repository.objects.filter(pk=repository.pk, hosted_bundle=before)
    won = rows.filter(is_active=True).update(hosted_bundle=name, updated_at=timezone.now())
    _drop(before if won else name)
    if not won and not Repository.objects.active().filter(pk=repository.pk).exists():
        raise BranchNotTaken("The repository was disconnected meanwhile.")
    return bool(won)


def forget(repository: Repository) -> None:
    """Remove what is kept of a repository that was disconnected."""
    _drop(_bundle_of(repository))


def _drop(name: str) -> None:
    """Remove a bundle that no row names any more; one that stays is only in the way."""
    if name:
        with suppress(OSError):
            _storage().delete(name)


# --- Reading ------------------------------------------------------------------------------------


def open_bundle(repository: Repository) -> IO[bytes]:
    """Open the bundle, to clone from. Raises NotFound before the first build, HostingAway."""
    for _ in range(TRIES):
        name = _bundle_of(repository)
        if not name:
            raise NotFound("Nothing has been built here yet.")
        with suppress(FileNotFoundError), _as_away():
            file: IO[bytes] = _storage().open(name)
            return file
    raise HostingAway


def open_zip(repository: Repository, mirror: Path) -> IO[bytes]:
    """Open a zip of the default branch's files; it is gone once it is closed.

    Raises NotFound before the first build, RunFailed's children, HostingAway.
    """
    found = bring_mirror(repository, mirror, patience=PAGE_PATIENCE)
    if not repository.hosted_bundle:
        raise NotFound("Nothing has been built here yet.")
    branches = {one.name: one.commit for one in found}
    zips = _zips()
    zips.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=zips) as folder:
        path = Path(folder) / "files.zip"
        with as_failed_run():
            git.write_zip(
                mirror,
                branches[repository.default_branch],
                path,
                prefix=repository.name,
                max_bytes=settings.REPOSITORY_MAX_BYTES,
            )
        return path.open("rb")


def _zips() -> Path:
    return Path(settings.VAR_DIR) / ZIPS


def sweep() -> int:
    """Remove the bundles that no connected repository names, and zips that nobody finished.

    Return how many. What is younger than an hour stays: its writer may be about to name it.
    """
    before = timezone.now() - UNNAMED_SECONDS
    try:
        listed = list(_stored())
        # Asked after they were listed, so that one that is named meanwhile is known.
        named = set(Repository.objects.active().values_list("hosted_bundle", flat=True))
        old = [name for name in listed if name not in named and _is_old(name, before)]
    except OSError as error:
        logger.warning("hosted repositories: the storage is not swept: %s", error)
        old = []
    for name in old:
        _drop(name)
    return len(old) + _sweep_zips(before)


def _stored() -> Iterator[str]:
    """Yield the names of all bundles. Raises OSError."""
    with suppress(FileNotFoundError):
        for folder in _storage().listdir(FOLDER)[0]:
            for name in _storage().listdir(f"{FOLDER}/{folder}")[1]:
                yield f"{FOLDER}/{folder}/{name}"


def _is_old(name: str, before: datetime) -> bool:
    try:
        return bool(_storage().get_modified_time(name) < before)
    except FileNotFoundError:
        return False


def _sweep_zips(before: datetime) -> int:
    count = 0
    for folder in _zips().glob("*"):
        with suppress(FileNotFoundError):
            if folder.stat().st_mtime < before.timestamp():
                shutil.rmtree(folder, ignore_errors=True)
                count += 1
    return count


def _storage() -> Storage:
    return storages["runs"]


@contextmanager
def _as_away() -> Iterator[None]:
    """Translate a storage that is full or away. A file that is not there stays FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        logger.warning("hosted repositories: the storage failed: %s", error)
        raise HostingAway from error


@contextmanager
def _local_copy(name: str, beside: Path) -> Iterator[Path]:
    """Yield a copy of the bundle, which nobody removes. Raises FileNotFoundError, HostingAway."""
    with tempfile.TemporaryDirectory(dir=beside, prefix=COPY) as folder:
        copy = Path(folder) / "all.bundle"
        with _as_away(), _storage().open(name) as file, copy.open("wb") as target:
            for piece in file.chunks():
                target.write(piece)
        yield copy
