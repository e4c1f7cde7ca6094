from __future__ import annotations

from pathlib import Path

import pytest

from campaigns.report import Report
from campaigns.repositories import _add
from campaigns.repositories.vector import Outcome, Vector
from campaigns.tests.tables import bring_up_to_date, rows_of, run_campaign


@pytest.mark.timeout(900)
def test_no_hostile_repository_gets_through_and_every_control_fires(tmp_path: Path) -> None:
    text = run_campaign("repositories", tmp_path, count=30)
    rows = rows_of(text, "repositories")
    assert len(rows) >= 60
    assert {row[2] for row in rows} == {"held"}
    bring_up_to_date(text)


@pytest.mark.parametrize(
    ("outcome", "no_control", "losses"),
    [
        (Outcome("", control=True), "", 0),
        (Outcome(""), "git refuses it, too", 0),
        (Outcome(""), "", 1),
        (Outcome("a program ran on the host", control=True), "", 1),
        (Outcome("a program ran on the host"), "git refuses it, too", 1),
    ],
)
def test_a_vector_that_proves_nothing_is_a_loss(
    outcome: Outcome, no_control: str, losses: int
) -> None:
    report = Report("x", ["vector", "wall", "outcome", "control"])
    _add(report, Vector("try", "wall", lambda folder: outcome, no_control), outcome)
    assert len(report.losses) == losses
    assert report.rows[0][2] == ("GOT THROUGH" if outcome.got else "held")
