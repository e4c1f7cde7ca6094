"""What an agent leaves in its workspace, made inside a real sandbox and handed back from there."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from campaigns.repositories.vector import REFUSES_TOO, Outcome, Vector
from repositories import git
from repositories.tests.make import make_upstream, plain_git
from tasks.tests.workspaces import (
    ATTACKS,
    CHANGE,
    Scene,
    carelessly,
    inside,
    make_scene,
    taken_out,
)

INSIDE = "git works on a workspace inside the sandbox only"
AS_TEXT = "links are handed back as text"
LEFT_OUT = "such names are left out of checkpoints"
CANARY = "canary-of-the-host"


def vectors() -> Iterator[Vector]:
    for name in ATTACKS:
        yield Vector(f"workspace: {name}", INSIDE, partial(_runs, name))
    yield Vector("workspace: links to a file, to / and to an environment", AS_TEXT, _links)
    yield Vector("workspace: alternates in another tenant's objects", INSIDE, _alternates)
    yield Vector("workspace: pushInsteadOf that leads elsewhere", INSIDE, _push_elsewhere)
    for name in (".GIT/config", "sub/.Git/config", "git~1/x"):
        # Other git settings than its own take the short name, but no git takes .git in capitals.
        why = "" if "~" in name else REFUSES_TOO
        yield Vector(f"workspace: a file {name}", LEFT_OUT, partial(_reserved, name), why)


def _runs(name: str, folder: Path) -> Outcome:
    prepare, careless = ATTACKS[name]
    scene = make_scene(folder)
    with scene.sandbox() as sandbox:
        evil = f"touch {scene.marker}"
        inside(sandbox, prepare.replace("EVIL", evil).replace("MIRROR", str(scene.mirror)))
        inside(sandbox, "cd /workspace; echo always > changed.txt")
        scene.serve(sandbox)
        got = "a program ran on the host" if scene.marker.exists() else ""
        copy = taken_out(sandbox, scene.folder / "copy")
    carelessly(careless, copy)
    return Outcome(got, scene.marker.exists())


def _links(folder: Path) -> Outcome:
    scene = make_scene(folder)
    secret = scene.folder / "secret.txt"
    secret.write_text(CANARY)
    with scene.sandbox() as sandbox:
        inside(sandbox, f"ln -s {secret} link; ln -s /proc/self/environ env; ln -s / root")
        head = scene.checkpoint(sandbox).commit
        copy = taken_out(sandbox, scene.folder / "copy")
    shown = git.diff(scene.store, scene.base, head, max_bytes=10**6)
    below = git.show_file(scene.store, head, f"root{secret}", max_bytes=10**6)
    got = "a file of the host was read" if CANARY in shown or below is not None else ""
    return Outcome(got, (copy / "link").read_text() == CANARY)


def _alternates(folder: Path) -> Outcome:
    scene = make_scene(folder)
    other = make_upstream(folder / "other-tenant", {"private.txt": CANARY})
    blob = plain_git("rev-parse", "HEAD:private.txt", cwd=other)
    borrow = f"echo {other}/.git/objects >> .git/objects/info/alternates"
    stage = f"git update-index --add --cacheinfo 100644,{blob},stolen.txt"
    with scene.sandbox() as sandbox:
        inside(sandbox, f"{borrow}; {stage}; git checkout-index stolen.txt || true")
        head = scene.checkpoint(sandbox).commit
        copy = taken_out(sandbox, scene.folder / "copy")
    got = CANARY in git.diff(scene.store, scene.base, head, max_bytes=10**6)
    carelessly("git checkout-index -f stolen.txt", copy)
    fired = (copy / "stolen.txt").is_file() and (copy / "stolen.txt").read_text() == CANARY
    return Outcome("another tenant's file was read" if got else "", fired)


def _push_elsewhere(folder: Path) -> Outcome:
    scene = make_scene(folder)
    trap = folder / "trap.git"
    plain_git("init", "-q", "--bare", str(trap), cwd=folder)
    with scene.sandbox() as sandbox:
        inside(sandbox, f"git config url.{trap}.pushInsteadOf {scene.upstream}; {CHANGE}")
        scene.serve(sandbox)
        copy = taken_out(sandbox, scene.folder / "copy")
    got = _refs(trap)
    carelessly(f"git push {scene.upstream} HEAD:refs/heads/x", copy)
    return Outcome("the push went elsewhere" if got else "", bool(_refs(trap)))


def _refs(repository: Path) -> str:
    return plain_git("for-each-ref", cwd=repository)


def _reserved(name: str, folder: Path) -> Outcome:
    scene: Scene = make_scene(folder)
    with scene.sandbox() as sandbox:
        inside(sandbox, f"mkdir -p $(dirname {name}); echo x > {name}; echo kept > kept.txt")
        head = scene.checkpoint(sandbox).commit
    paths = [file.path for file in git.changed_files(scene.store, scene.base, head)]
    got = "" if paths == ["kept.txt"] else f"the checkpoint holds {paths}"
    # To a git that does not think of other file systems it is a name as any other.
    careless = "-c core.protectNTFS=false -c core.protectHFS=false"
    blob = "$(echo x | git hash-object -w --stdin)"
    plain = make_upstream(folder / "plain")
    carelessly(f"git {careless} update-index --add --cacheinfo 100644,{blob},{name}", plain)
    return Outcome(got, name in plain_git("ls-files", cwd=plain))
