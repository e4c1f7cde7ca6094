"""What a run starts from: the mirror, the commit, the review's two sides, the prepared tree."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from asynccoder.lib import storable
from repositories import connect, git
from repositories.errors import as_failed_run
from repositories.models import Repository
from tasks.agent.ports import Assignment, Review, ToolResult
from tasks.bench import RunBench
from tasks.errors import SetupFailed
from tasks.journal import RunJournal
from tasks.models import CHANGING, Task, TaskType
from tasks.sandbox.base import Command
from tasks.workspace import Origin, store_path, task_folder

SETUP_SECONDS = 900.0
BRIEF_FILES = ("AGENTS.md", "CLAUDE.md", "README.md", "README.rst", "README")
BRIEF_CHARACTERS = 6_000
MAP_ENTRIES = 300


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run starts and, for a review, what it compares."""

    origin: Origin
    review: Review | None = None


def find_start(task: Task, journal: RunJournal) -> Start:
    """Return the start of a run; the commits are noted once and kept over every attempt."""
    if task.repository is None:
        mirror, bases = task_folder(task.pk) / "origin.git", task_folder(task.pk) / "bases"
        noted = journal.note(name="start", effect=lambda: _new_origin(task, mirror))
    else:
        mirror = connect.mirror_path(task.repository)
        bases = connect.bases_path(task.repository)
        noted = journal.note(name="start", effect=_from_mirror(task, task.repository))
    commits = json.loads(noted)
    _remember_base(task, commits["base"])
    if task.type != TaskType.PR_REVIEW:
        return Start(Origin(mirror, commits["base"], bases))
    store = store_path(task.pk)
    return Start(Origin(store, commits["head"], bases), _review(store, commits))


def _remember_base(task: Task, commit: str) -> None:
    Task.objects.held(task.pk, task.generation).update(base_commit=commit)
    task.base_commit = commit


def _new_origin(task: Task, mirror: Path) -> str:
    """Make a repository of the request's own files, or an empty one."""
    files = {file["path"]: file["content"].encode() for file in task.files}
    mirror.parent.mkdir(parents=True, exist_ok=True)
    return json.dumps({"base": git.create_origin(mirror, files)})


def _from_mirror(task: Task, repository: Repository) -> Callable[[], str]:
    def effect() -> str:
        """Fetch, then name the commits that this run works on."""
        connect.sync_repository(repository)
        mirror = connect.mirror_path(repository)
        branch = task.branch or repository.default_branch
        head = connect.commit_of(repository, branch)
        if task.type != TaskType.PR_REVIEW:
            return json.dumps({"base": head})
        store = store_path(task.pk)
        if not store.exists():
            store.parent.mkdir(parents=True, exist_ok=True)
            git.create_store(store, mirror)
        with as_failed_run():
            if task.patch:
                patched = git.apply_patch_tree(store, head, task.patch)
                return json.dumps({"base": head, "head": patched})
            target = connect.commit_of(repository, task.target_branch or repository.default_branch)
            return json.dumps({"base": git.merge_base(mirror, target, head), "head": head})

    return effect


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
    bench.workspace.sandbox.__enter__()
    if task.files and task.repository is not None and task.type in CHANGING:
        _place_files(task, bench)
    # What a setup makes goes into the workspace, which the other types see read-only.
    if task.repository is not None and task.repository.setup_command and task.type in CHANGING:
        _set_up(task.repository.setup_command, bench)
    if task.type in CHANGING and task.type != TaskType.DOCUMENTATION:
        bench.set_progress(10, "Running the checks as they are now")
        bench.run_checks(phase="before")


def _place_files(task: Task, bench: RunBench) -> None:
    def effect() -> ToolResult:
        for file in task.files:
            bench.sandbox.write(file["path"], file["content"].encode())
        names = ", ".join(file["path"] for file in task.files)
        return ToolResult(f"Placed {names}", summary=f"Placed {len(task.files)} given files")

    bench.journal.tool_call(
        name="place_files",
        arguments="{}",
        changes=True,
        effect=effect,
        label="Placing the files of the request",
    )


def _set_up(command: str, bench: RunBench) -> None:
    """Run the setup, at the start of every attempt: what git ignores of it is not kept."""
    result = bench.sandbox.run(Command(["bash", "-c", command], seconds=SETUP_SECONDS))
    if result.exit_code != 0:
        said = storable.text(result.text[-1000:])
        raise SetupFailed(f"Setup failed with exit code {result.exit_code}: {said}")
    bench.log(f"Setup done in {result.seconds:.1f} s: {command}")


def assignment(task: Task, bench: RunBench, start: Start) -> Assignment:
    """Return the task as an engine sees it."""
    return Assignment(
        task_id=str(task.pk),
        type=task.type,
        prompt=task.prompt,
        repository=task.repository.full_name if task.repository else "a new project",
        branch=task.branch or (task.repository.default_branch if task.repository else "main"),
        target_branch=task.target_branch,
        parameters=task.parameters,
        files=task.files,
        brief=_brief(task, bench, start),
        review=start.review,
    )


def _brief(task: Task, bench: RunBench, start: Start) -> str:
    """Return what a newcomer needs: the house rules of the repository and a map of its tree."""
    store, commit = bench.workspace.store, start.origin.commit
    parts = []
    for name in BRIEF_FILES:
        content = git.show_file(store, commit, name, max_bytes=BRIEF_CHARACTERS)
        if content:
            parts.append(f"## {name}\n{content.decode('utf-8', 'replace')[:BRIEF_CHARACTERS]}")
    entries = [entry.path for entry in git.list_tree(store, commit)]
    listed = "\n".join(entries[:MAP_ENTRIES])
    if hosts := task.repository.network_allow_list if task.repository else []:
        parts.append(f"## Network\nReached over https through $HTTPS_PROXY: {', '.join(hosts)}")
    more = f"\n… and {len(entries) - MAP_ENTRIES} more" if len(entries) > MAP_ENTRIES else ""
    parts.append(f"## Files\n{listed}{more}")
    return "\n\n".join(parts)
