"""The sandbox: it starts, it holds under attack, and what it costs here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from asynccoder.doctor.findings import Finding, failed, ok, warning
from asynccoder.launcher import preflight
from asynccoder.launcher.preflight import NotReady
from tasks.sandbox import selftest, watch
from tasks.sandbox.base import SandboxUnavailable
from tasks.sandbox.toolchain import Toolchain


def check_start() -> Iterator[Finding]:
    """Only start one."""
    try:
        preflight.check_sandbox(settings.VAR_DIR)
    except NotReady as reason:
        yield failed(str(reason))
    else:
        yield ok("one was started; not attacked")


def check_attacks() -> Iterator[Finding]:
    """Attack one from inside, as a worker does before it serves."""
    try:
        toolchain = Toolchain.of_platform()
        findings = selftest.require(toolchain)
        overlays = selftest.can_overlay(Path(settings.VAR_DIR), toolchain)
    except SandboxUnavailable as error:
        yield failed(f"{error}.")
        return
    yield ok(
        f"{len(findings)} of {len(findings)} attacks were held; memory is watched from outside"
        f" every {watch.MEMORY_EVERY} s, without a cgroup"
    )
    if not overlays:
        yield warning("every run copies its repository's tree: for overlays, use bubblewrap 0.11"
                      " and a VAR_DIR on an ordinary file system.")  # fmt: skip
