"""The tools of the agent. Whatever a model asks for, the answer is text: no tool raises."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aimodels.providers.base import ToolSpec
from tasks.agent.edits import APPLY_PATCH, EDIT
from tasks.agent.output import failed, one_line, visible
from tasks.agent.ports import ToolResult
from tasks.agent.toolbox import (
    ENVIRONMENT,
    Tool,
    Workbench,
    inside,
    readable_place,
    schema,
    text_of,
)
from tasks.sandbox.base import Command, CommandResult

VIEWED_LINES = 400
LINE_CHARACTERS = 1_000
FOLDER_ENTRIES = 500
MATCHES_PER_FILE = 50
PLAN_ITEMS = 30
STATUSES = ("pending", "in_progress", "done")


# --- bash ---------------------------------------------------------------------------------------


def bash(workbench: Workbench, arguments: dict[str, Any]) -> ToolResult:
    """Run a command in a fresh process in the workspace."""
    limits = workbench.limits
    asked = arguments.get("timeout", int(limits.command_seconds))
    seconds = min(asked, limits.command_max_seconds, workbench.seconds_left())
    command = arguments["command"]
    result = workbench.sandbox.run(
        Command(("bash", "-c", command), seconds=seconds, env=ENVIRONMENT)
    )
    shown, full = workbench.shown(text_of(result))
    text = f"{shown.rstrip()}\n\n{_ending(result, seconds)}".lstrip("\n")
    return ToolResult(
        text,
        is_error=result.exit_code != 0,
        exit_code=result.exit_code,
        summary=f"Ran {one_line(command)}",
        full=full,
    )


def _ending(result: CommandResult, seconds: float) -> str:
    """Say how a command ended, in the last line of its output."""
    reasons = {
        "timeout": f"stopped by the platform after {seconds:.0f} s; it may need a longer timeout, "
        "or it waits for input",
        "output": "stopped by the platform: too much output",
        "disk": "stopped by the platform: the workspace's disk limit is reached",
        "memory": "stopped by the platform: the memory limit is reached",
        "cancelled": "stopped: the task was cancelled",
    }
    ending = f"[exit code {result.exit_code}, {result.seconds:.1f} s"
    if result.stopped:
        ending += f"; {reasons.get(result.stopped, result.stopped)}"
    return f"{ending}]"


# --- view ---------------------------------------------------------------------------------------


def view(workbench: Workbench, arguments: dict[str, Any]) -> ToolResult:
    """Show a file with line numbers, or what is in a folder."""
    path = readable_place(arguments["path"])
    try:
        raw = workbench.sandbox.read(path)
    except IsADirectoryError:
        return _view_folder(workbench, path)
    if b"\0" in raw[:8_000]:
        return failed(f"{path} is a binary file of {len(raw):,} bytes.")
    lines = raw.decode("utf-8", "replace").split("\n")
    if lines and not lines[-1]:
        lines.pop()
    if not lines:
        return ToolResult(f"{path} is empty.", summary=f"Viewed {path}")
    return _view_lines(workbench, path, lines, arguments)


def _view_lines(
    workbench: Workbench, path: str, lines: list[str], arguments: dict[str, Any]
) -> ToolResult:
    start = arguments.get("start", 1)
    if start > len(lines):
        return failed(f"{path} has only {len(lines)} lines.")
    end = min(arguments.get("end", start + VIEWED_LINES - 1), len(lines), start + 2_000)
    numbered, room = [], workbench.limits.shown_characters
    for number in range(start, max(end, start) + 1):
        text = visible(lines[number - 1].rstrip("\r"))
        text = text if len(text) <= LINE_CHARACTERS else f"{text[:LINE_CHARACTERS]}… (cut)"
        numbered.append(f"{number:6}\t{text}")
        room -= len(numbered[-1]) + 1
        if room <= 0:
            break
    last = start + len(numbered) - 1
    shown = "\n".join(numbered)
    more = (
        f"\n[lines {start} to {last} of {len(lines)}]" if (start, last) != (1, len(lines)) else ""
    )
    return ToolResult(f"{shown}{more}", summary=f"Viewed {path}:{start}-{last}")


def _view_folder(workbench: Workbench, path: str) -> ToolResult:
    listed = workbench.run(
        "find", f"./{path}", "-mindepth", "1", "-maxdepth", "2",
        "-not", "-path", "*/.git", "-not", "-path", "*/.git/*",
        "-not", "-path", "*/node_modules/*", "-not", "-path", "*/__pycache__*",
        "-printf", "%P%y\\n",
    )  # fmt: skip
    names = sorted(
        f"{line[:-1]}/" if line.endswith("d") else line[:-1]
        for line in text_of(listed).splitlines()
        if line
    )
    more = len(names) - FOLDER_ENTRIES
    shown = "\n".join(names[:FOLDER_ENTRIES]) + (f"\n[… and {more} more]" if more > 0 else "")
    return ToolResult(shown or "The folder is empty.", summary=f"Viewed {path}/")


# --- search -------------------------------------------------------------------------------------


def search(workbench: Workbench, arguments: dict[str, Any]) -> ToolResult:
    """Search the workspace with ripgrep, or list the files that a glob names."""
    path = inside(arguments.get("path", "."))
    place = path if path == "." else f"./{path}"
    pattern = arguments.get("pattern", "")
    argv = ["rg", "--color", "never", "--sort", "path", "--hidden", "--no-require-git"]
    argv += ["--glob", "!.git"]
    if arguments.get("glob"):
        argv += ["--glob", arguments["glob"]]
    if not pattern:
        argv += ["--files", "--", place]
    else:
        argv += [
            "--line-number", "--no-heading", "--max-columns", "300", "--max-columns-preview",
            "--max-count", str(MATCHES_PER_FILE), "--context", str(arguments.get("context", 0)),
            "--regexp", pattern, "--", place,
        ]  # fmt: skip
    result = workbench.run(*argv)
    text = "\n".join(line.removeprefix("./") for line in text_of(result).splitlines())
    what = one_line(pattern or arguments.get("glob", "files"), 60)
    if result.exit_code == 1 and not text:
        return ToolResult("Nothing was found.", summary=f"Searched {what}: nothing")
    if result.exit_code > 1 or result.stopped:
        return failed(f"The search failed: {text[:1000] or result.stopped}")
    shown, full = workbench.shown(text)
    count = len(text.splitlines())
    return ToolResult(shown, summary=f"Searched {what}: {count} lines", full=full)


# --- plan ---------------------------------------------------------------------------------------


def plan(workbench: Workbench, arguments: dict[str, Any]) -> ToolResult:
    """Show the user what is done and what comes."""
    items = [(one_line(visible(item["title"])), item["status"]) for item in arguments["items"]]
    workbench.bench.set_plan(items)
    done = sum(status == "done" for _, status in items)
    return ToolResult(
        f"The plan is shown: {done} of {len(items)} done.",
        summary=f"Plan: {done} of {len(items)} done",
    )


TOOLS: dict[str, Tool] = {
    "bash": Tool(
        ToolSpec(
            "bash",
            "Run a bash command in the workspace (/workspace). Every command is a fresh process: "
            "`cd`, variables and background jobs do not last; join what belongs together with &&. "
            "There is no terminal and no input. The last line of the answer is the exit code.",
            schema(
                ["command"],
                command={"type": "string", "minLength": 1, "maxLength": 100_000},
                timeout={
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 3600,
                    "description": "Seconds, where the usual limit is too short.",
                },
            ),
        ),
        bash,
        changes=True,
    ),
    "view": Tool(
        ToolSpec(
            "view",
            "Show a text file with line numbers, or list a folder two levels deep. Give `start` and "
            f"`end` for a part; without them the first {VIEWED_LINES} lines come.",
            schema(
                ["path"],
                path={"type": "string", "maxLength": 1000},
                start={"type": "integer", "minimum": 1},
                end={"type": "integer", "minimum": 1},
            ),
        ),
        view,
    ),
    "edit": EDIT,
    "apply_patch": APPLY_PATCH,
    "search": Tool(
        ToolSpec(
            "search",
            "Search all files of the workspace (those that git ignores are left out) for a regular "
            "expression; answers path:line:text. Without a pattern, lists the files that fit `glob`.",
            schema(
                [],
                pattern={"type": "string", "maxLength": 2000, "description": "Rust-style regex."},
                path={"type": "string", "maxLength": 1000, "description": "Folder or file."},
                glob={"type": "string", "maxLength": 500, "description": "Such as '*.py'."},
                context={
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 10,
                    "description": "Lines around each match.",
                },
            ),
        ),
        search,
    ),
    "plan": Tool(
        ToolSpec(
            "plan",
            "Show the user a short checklist of the work; call it again when a step is done. "
            "Use it for work of several steps only.",
            schema(
                ["items"],
                items={
                    "type": "array",
                    "minItems": 1,
                    "maxItems": PLAN_ITEMS,
                    "items": {
                        "type": "object",
                        "properties": {
                            "title": {"type": "string", "minLength": 1, "maxLength": 300},
                            "status": {"type": "string", "enum": list(STATUSES)},
                        },
                        "required": ["title", "status"],
                    },
                },
            ),
        ),
        plan,
    ),
}


def chosen(names: Iterable[str], *, is_read_only: bool) -> dict[str, Tool]:
    """Return a mode's tools. In a read-only workspace no tool counts as one that changes files."""
    tools = {name: TOOLS[name] for name in names}
    if not is_read_only:
        return tools
    return {
        name: Tool(tool.spec, tool.act, changes=False)
        for name, tool in tools.items()
        if name not in ("edit", "apply_patch")
    }
