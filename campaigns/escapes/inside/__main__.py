"""Run a family of attempts, each in a process of its own, and print what got out."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
from pathlib import Path

from campaigns.escapes.inside import host, kernel, network, privileges, processes
from campaigns.escapes.inside.looking import Attempt, Target
from tasks.sandbox.probe import ATTACKS, attempt, refused_call

SECONDS = 10
FAMILIES = {
    "processes": processes, "kernel": kernel, "files": host, "privileges": privileges, "network": network,
}  # fmt: skip


def in_child(attack: Attempt, target: Target) -> str:
    """Run one attempt as a process of its own, for it may end or imprison itself."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            found = attempt(attack, target)
        except Exception as error:  # noqa: BLE001 - an attempt that breaks has shown nothing
            found = f"could not be tried: {error!r}"
        try:
            os.write(writer, found.encode("utf-8", "replace")[:500])
        finally:
            os._exit(0)
    os.close(writer)
    is_ready, _, _ = select.select([reader], [], [], SECONDS)
    found = os.read(reader, 500).decode() if is_ready else ""
    os.close(reader)
    if not is_ready:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return found


def main() -> None:
    family, target = sys.argv[1], json.loads(Path("target.json").read_text())
    if len(sys.argv) > 2:
        target |= json.loads(sys.argv[2])
    attacks: dict[str, Attempt]
    if family == "self_test":
        attacks = {
            **ATTACKS,
            **{f"call_{name}": refused_call(call) for name, call in target["calls"].items()},
        }
    else:
        attacks = {attack.__name__: attack for attack in FAMILIES[family].ATTEMPTS}
    found = {}
    for name, attack in attacks.items():
        try:
            found[name] = in_child(attack, target)
        except OSError as error:
            found[name] = f"could not be tried: {errno.errorcode.get(error.errno or 0, 'error')}"
    sys.stdout.write(f"FOUND {json.dumps(found)}\n")


if __name__ == "__main__":
    main()
