"""What a run starts from: the mirror, the commit, the review's two sides, the prepared tree."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asynccoder.lib import bus
from repositories import connect, git
from repositories.errors import as_failed_run
from repositories.models import Repository
from tasks import stores
from tasks.agent.ports import Assignment, Review, ToolResult
from tasks.bench import RunBench
from tasks.errors import FileNotPlaced, RepositoryClosed
from tasks.journal import RunJournal
from tasks.models import CHANGING, Task, TaskType
from tasks.workspace import Origin, Setup, store_path, task_folder

BRIEF_FILES = ("AGENTS.md", "CLAUDE.md", "README.md", "README.rst", "README")
BRIEF_CHARACTERS = 6_000
MAP_ENTRIES = 300


@dataclass(frozen=True, slots=True)
class Seen:
    """What the repository's row said when the run began.

    It is part of the prompt: a later change of it must not make a resumed run another one.
    """

    repository: str
    branch: str
    hosts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run starts and, for a review, what it compares."""

    origin: Origin
    seen: Seen
    review: Review | None = None


def find_start(task: Task, journal: RunJournal) -> Start:
    """Return the start of a run; what it is is noted once and kept over every attempt.

    Raises RepositoryClosed, WorkspaceLost, StorageAway, and what a fetch raises.
    """
    is_resumed = journal.is_replaying
    if task.repository is None:
        bases = task_folder(task.pk) / "bases"
        find = _noted(task, lambda: {"base": stores.make_origin(task)})
    else:
        _refuse_closed(task)
        bases = connect.bases_path(task.repository)
        find = _noted(task, _from_mirror(task, task.repository))
    start = json.loads(journal.note(name=stores.START, effect=find))
    commits, seen, mirror = start["commits"], Seen(**start["seen"]), stores.mirror_of(task)
    if is_resumed:
        stores.bring_back(task, commits)
    _remember_base(task, commits["base"])
    if task.type != TaskType.PR_REVIEW:
        return Start(Origin(mirror, commits["base"], bases), seen)
    store = store_path(task.pk)
    return Start(Origin(store, commits["head"], bases), seen, _review(store, commits))


def _refuse_closed(task: Task) -> None:
    """Raise RepositoryClosed when the owner may not work on the repository (any more)."""
    if not Repository.objects.workable_by(task.owner).filter(tasks=task).exists():
        raise RepositoryClosed


def _noted(task: Task, find: Callable[[], dict[str, str]]) -> Callable[[], str]:
    def effect() -> str:
        commits = find()
        return json.dumps({"commits": commits, "seen": asdict(_seen(task))})

    return effect


def _seen(task: Task) -> Seen:
    repository = task.repository
    if repository is None:
        return Seen("a new project", task.branch or "main", ())
    branch = task.branch or repository.default_branch
    return Seen(repository.full_name, branch, repository.network_allow_list)


def _remember_base(task: Task, commit: str) -> None:
    Task.objects.held(task.pk, task.generation).update(base_commit=commit)
    task.base_commit = commit


def _from_mirror(task: Task, repository: Repository) -> Callable[[], dict[str, str]]:
    def find() -> dict[str, str]:
        """Fetch, then name the commits that this run works on."""
        branches = connect.sync_repository(repository)
        mirror = connect.mirror_path(repository)
        with as_failed_run():
            head = git.commit_named(branches, task.branch or repository.default_branch)
        if task.type != TaskType.PR_REVIEW:
            return {"base": head}
        store = store_path(task.pk)
        if not store.exists():
            store.parent.mkdir(parents=True, exist_ok=True)
            git.create_store(store, mirror)
        with as_failed_run():
            if task.patch:
                patched = git.apply_patch_tree(store, head, task.patch)
                return {"base": head, "head": patched}
            onto = task.target_branch or repository.default_branch
            target = git.commit_named(branches, onto)
            return {"base": git.merge_base(mirror, target, head), "head": head}

    return find


def _review(store: Path, commits: dict[str, str]) -> Review:
    base, head = commits["base"], commits["head"]
    return Review(
        base=base,
        head=head,
        diff=git.diff(store, base, head, max_bytes=1024**2),
        changed_lines=git.changed_lines(store, base, head),
    )


def prepare_tree(task: Task, bench: RunBench) -> None:
    """Start the sandbox, place the request's files, set up, and run the checks on the base."""
    bench.set_progress(5, "Preparing the workspace")
    # What a setup makes goes into the workspace, which the other types see read-only.
    command = task.repository.setup_command if task.repository else ""
    if task.repository and command and task.type in CHANGING:
        bench.workspace.setup = Setup(command, connect.setups_path(task.repository), bench.tell)
    bus.send()
    bench.workspace.sandbox.__enter__()
    if task.files and task.repository is not None and task.type in CHANGING:
        _place_files(task, bench)
    if task.type in CHANGING and task.type != TaskType.DOCUMENTATION:
        bench.set_progress(10, "Running the checks as they are now")
        bench.run_checks(phase="before")


def _place_files(task: Task, bench: RunBench) -> None:
    def effect() -> ToolResult:
        for file in task.files:
            try:
                bench.sandbox.write(file["path"], file["content"].encode())
            except (OSError, ValueError) as error:
                message = f"{file['path']} cannot be placed: the repository has something there."
                raise FileNotPlaced(message) from error
        names = ", ".join(file["path"] for file in task.files)
        return ToolResult(f"Placed {names}", summary=f"Placed {len(task.files)} given files")

    bench.journal.tool_call(
        name="place_files",
        arguments="{}",
        changes=True,
        effect=effect,
        label="Placing the files of the request",
    )


def assignment(task: Task, bench: RunBench, start: Start) -> Assignment:
    """Return the task as an engine sees it."""
    return Assignment(
        task_id=str(task.pk),
        type=task.type,
        prompt=task.prompt,
        repository=start.seen.repository,
        branch=start.seen.branch,
        target_branch=task.target_branch,
        parameters=task.parameters,
        files=task.files,
        brief=_brief(bench, start),
        review=start.review,
    )


def _brief(bench: RunBench, start: Start) -> str:
    """Return what a newcomer needs: the house rules of the repository and a map of its tree."""
    store, commit = bench.workspace.store, start.origin.commit
    entries = [entry.path for entry in bench.files(commit)]
    parts = []
    for name in sorted({*BRIEF_FILES}.intersection(entries), key=BRIEF_FILES.index):
        content = git.show_file(store, commit, name, max_bytes=BRIEF_CHARACTERS)
        if content:
            parts.append(f"## {name}\n{content.decode('utf-8', 'replace')[:BRIEF_CHARACTERS]}")
    listed = "\n".join(entries[:MAP_ENTRIES])
    if hosts := start.seen.hosts:
        parts.append(f"## Network\nReached over https through $HTTPS_PROXY: {', '.join(hosts)}")
    more = f"\n… and {len(entries) - MAP_ENTRIES} more" if len(entries) > MAP_ENTRIES else ""
    parts.append(f"## Files\n{listed}{more}")
    return "\n\n".join(parts)
