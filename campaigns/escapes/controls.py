"""The same attempts outside a sandbox, where each must succeed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from campaigns.escapes import kills
from campaigns.escapes.programme import acts_with_words, all_scenes
from campaigns.escapes.scenes import families

if TYPE_CHECKING:
    from campaigns.escapes.performance import Performance, Setting

# What the kernel, or the container that the campaign runs in, may refuse to everyone.
OWN_CHOICE = {
    "user_namespace", "foreign_calls", "socket_families", "unfiltered", "interfaces", "new_privileges",
    "host_processes", "loopback_v6", "session_key", "kernel_log", "devices", "control_groups",
    "files_of_sys", "call_io_uring_setup", "call_userfaultfd", "call_perf_event_open", "call_keyctl",
    "system_request", "kernel_memory", "raise_limits", "escape_the_memory_killer", "call_finit_module",
    "call_add_key", "call_request_key", "call_bpf", "call_syslog", "call_process_madvise",
}  # fmt: skip
SECONDS = 300


def run(setting: Setting, performance: Performance) -> dict[str, str]:
    """Return how each attempt succeeded on the host, "" where it did not."""
    copies = _copies(setting)
    target = performance.target
    found = _probes(setting, next(copies), target)
    acts = [act for act in acts_with_words(all_scenes(target)) if act.control]
    folders = [next(copies) for _ in acts]
    with ThreadPoolExecutor(8) as pool:
        said = pool.map(
            lambda pair: _shell(setting, performance, pair[0].control, pair[1]),
            zip(acts, folders, strict=True),
        )
        for act, text in zip(acts, said, strict=True):
            succeeded = "OUT" in text.split() or str(target["canary"]) in text
            found[act.name] = "succeeded" if succeeded else ""
    found["refs"] = found["push_main"]
    found["host_tree"] = found["write_outside"]
    found["traps"] = " ".join(setting.bait.touched)
    found["kills"] = "outlived" if kills.a_process_outlives() else ""
    return found | performance.controls()


def _copies(setting: Setting) -> Iterator[Path]:
    for number in count():
        folder = setting.stage.folder / "controls" / str(number)
        shutil.copytree(setting.hostile.work, folder)
        yield folder


def _environment(setting: Setting, performance: Performance | None = None) -> dict[str, str]:
    """Return what the worker has: the canaries, and the home that holds some."""
    extra = performance.environment if performance else setting.secrets
    return (
        dict(os.environ)
        | extra
        | {"HOME": str(setting.home), "PYTHONDONTWRITEBYTECODE": "1", "PATIENCE": "0.5"}
    )


def _probes(setting: Setting, folder: Path, target: dict[str, object]) -> dict[str, str]:
    (folder / "target.json").write_text(json.dumps(target))
    found: dict[str, str] = {}
    secret = os.open(str(target["file"]), os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        for family in families().acts:
            # The self-test ends its victim; the others need theirs alive.
            victim = target["spare" if family.name == "self_test" else "victim"]
            own = json.dumps({"first": target["decoy"], "victim": victim})
            done = subprocess.run(
                [sys.executable, "-m", "campaigns.escapes.inside", family.name, own],
                cwd=folder, env=_environment(setting), close_fds=False, capture_output=True,
                check=False, timeout=SECONDS,
            )  # fmt: skip
            found |= results_of(done.stdout.decode())
    finally:
        os.close(secret)
    Path(str(target["folder"]), "written").unlink(missing_ok=True)
    return found


def results_of(answer: str) -> dict[str, str]:
    """Return what the attempts of a family reported."""
    lines = [line for line in answer.splitlines() if line.startswith("FOUND ")]
    return dict(json.loads(lines[-1].removeprefix("FOUND "))) if lines else {}


def _shell(setting: Setting, performance: Performance, script: str, folder: Path) -> str:
    who = {
        f"GIT_{role}_{part}": "x@y"
        for role in ("AUTHOR", "COMMITTER")
        for part in ("NAME", "EMAIL")
    }
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=_environment(setting, performance) | who,
        stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    return done.stdout.decode("utf-8", "replace")
