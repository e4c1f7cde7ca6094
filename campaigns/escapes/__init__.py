"""A hostile model against the sandbox and the loop around it, as an ordinary user and as root.

A scripted model on loopback drives a real worker. Each attempt is a row; its control is the same
outside the sandbox, which must succeed, for an attempt that never does proves nothing.
"""

from __future__ import annotations

import contextlib
import os
import random

from aimodels.tests.model_server import serve
from campaigns.escapes import controls
from campaigns.escapes.bait import Canaries, set_out
from campaigns.escapes.catalogue import Attempt, probes
from campaigns.escapes.performance import AFTERWARDS, Performance, Setting
from campaigns.escapes.programme import acts_with_words, all_scenes
from campaigns.escapes.tenants import hostile_tenant, other_tenant
from campaigns.escapes.workers import ROLES
from campaigns.report import Report
from campaigns.stage import Stage
from tasks.sandbox.ownership import UNPRIVILEGED

NONE = "\N{EN DASH}"
HELD, NOT_RUN = "held", "not run"


def run(stage: Stage, *, count: int, seed: int) -> Report:
    """Play every scene for each role; ``count`` kills in all."""
    report = Report("Escapes", ["Attempt", "What holds it", "as a user", "as root", "control"])
    roles = ROLES if os.geteuid() == 0 else ROLES[:1]
    canaries = Canaries()
    with contextlib.ExitStack() as stack:
        uid = UNPRIVILEGED if os.geteuid() == 0 else os.geteuid()
        bait = stack.enter_context(set_out(stage.folder / "host", canaries, uid=uid))
        hostile = stack.enter_context(hostile_tenant(stage.folder, canaries))
        other = stack.enter_context(other_tenant(stage.folder, canaries))
        server = stack.enter_context(serve(lambda _body: {}))
        setting = Setting(stage, canaries, bait, hostile, other, server)
        found: dict[str, dict[str, str]] = {}
        for role in roles:
            performance = Performance(setting, role)
            found[role] = performance.play(
                kills=count // len(roles), chance=random.Random(f"{seed}:{role}")
            )
        outside = controls.run(setting, performance)
    _fill(report, _rows(performance.target), found, outside)
    return report


def _rows(target: dict[str, object]) -> dict[str, Attempt]:
    acts = acts_with_words(all_scenes(target))
    return probes() | {act.name: act.words for act in acts if act.words} | AFTERWARDS


def _fill(
    report: Report,
    rows: dict[str, Attempt],
    found: dict[str, dict[str, str]],
    outside: dict[str, str],
) -> None:
    for name, row in rows.items():
        cells = [_cell(report, name, role, found.get(role)) for role in ROLES]
        report.add(row.tried, row.defence, *cells, _control(report, name, row, outside))
    held = sum(HELD in row[2:4] for row in report.rows)
    report.facts["attempts"] = f"{len(rows)}, {held} held"


def _cell(report: Report, name: str, role: str, found: dict[str, str] | None) -> str:
    if found is None:
        return NOT_RUN
    if name not in found:
        report.losses.append(f"{name} as {role}: it was not tried")
        return "not tried"
    if found[name]:
        report.losses.append(f"{name} as {role}: {found[name]}")
        return "GOT OUT"
    return HELD


def _control(report: Report, name: str, row: Attempt, outside: dict[str, str]) -> str:
    if row.no_control:
        return f"{NONE} ({row.no_control})"
    if name in controls.OWN_CHOICE:
        return "succeeds where the machine lets anybody"
    if outside.get(name) or os.geteuid() != 0:
        return "succeeds"
    report.losses.append(f"{name}: the control did not succeed, so the attempt proves nothing")
    return "did not succeed"
