"""Workers of two kinds: as root, and as an ordinary user in a world that this user can reach."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

from asynccoder.tests.processes import ROOT, Process, launch
from campaigns.stage import Stage
from tasks.sandbox.launch import can_enter
from tasks.sandbox.ownership import UNPRIVILEGED
from tasks.sandbox.toolchain import find_bwrap

ROLES = ("user", "root")


def start_worker(stage: Stage, role: str, environment: dict[str, str]) -> Process:
    """Start a worker; under root, ``user`` starts it as nobody in a mount namespace of its own."""
    log = stage.folder / "logs" / f"{len(stage.processes)}.log"
    command = [sys.executable, "manage.py", "worker"]
    if role == "user" and os.geteuid() == 0:
        command = [*_as_nobody(stage.folder / "binds"), *command]
    process = launch(command, stage.environment | environment, log)
    stage.processes.append(process)
    return process


def give_to(stage: Stage, role: str) -> Path:
    """Let the role's worker use the stage's database and Redis; return a VAR_DIR for it."""
    var = stage.folder / f"var-{role}"
    var.mkdir(mode=0o755)
    if os.geteuid() == 0:
        owner = UNPRIVILEGED if role == "user" else 0
        kept = [stage.folder, *stage.folder.glob("db.sqlite3*"), *stage.folder.glob("redis/**/*")]
        for path in [*kept, stage.folder / "redis", var]:
            if path.exists():
                os.chown(path, owner, owner)
    return var


def _as_nobody(place: Path) -> list[str]:
    """Return the command that goes on as nobody, who then reaches Python and the project.

    Folders that only root can enter are covered by an empty one that shows nothing but what is
    needed, at its own path.
    """
    needed = [Path(sys.base_prefix), Path(sys.prefix), ROOT, find_bwrap().resolve().parent]
    hidden = [path.resolve() for path in needed if not can_enter(path.resolve())]
    lines = [f"PATH={os.defpath}:/usr/sbin:/sbin", "set -e"]
    places = {path: place / str(number) for number, path in enumerate(dict.fromkeys(hidden))}
    for path, target in places.items():
        lines += [f"mkdir -p {target}", f"mount --bind {shlex.quote(str(path))} {target}"]
    for cover in sorted({_closed_folder(path) for path in places}):
        lines += [f"mount -t tmpfs -o mode=0755 cover {shlex.quote(str(cover))}"]
    for path, target in places.items():
        quoted = shlex.quote(str(path))
        lines += [f"mkdir -p {quoted}", f"mount --bind {target} {quoted}"]
    user = str(UNPRIVILEGED)
    drop = f'exec setpriv --reuid {user} --regid {user} --clear-groups -- "$@"'
    script = "; ".join([*lines, drop])
    return ["unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"]


def _closed_folder(path: Path) -> Path:
    """Return the outermost folder above a path that nobody may enter."""
    return next(folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001)
