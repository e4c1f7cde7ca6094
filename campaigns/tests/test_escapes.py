from __future__ import annotations

from pathlib import Path

import pytest

from campaigns.escapes.catalogue import Attempt
from campaigns.escapes.scenes import Act
from campaigns.tests.tables import DOCUMENT, bring_up_to_date, rows_of, run_campaign
from tasks.sandbox.ownership import is_root

MARK = "kanari0123"


@pytest.mark.timeout(2000)
def test_no_attempt_gets_out_and_every_control_does(tmp_path: Path) -> None:
    text = run_campaign("escapes", tmp_path, count=20)
    rows, committed = rows_of(text, "escapes"), rows_of(DOCUMENT.read_text(), "escapes")
    assert len(rows) >= 60
    assert {row[2] for row in rows} == {"held"}
    if is_root():
        assert {row[3] for row in rows} == {"held"}
        bring_up_to_date(text)
    else:
        assert [row[:3] for row in rows] == [row[:3] for row in committed]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (f"the file holds {MARK}-host-file-1", "read a secret"),
        ("line\nOUT\n", "got through"),
        ("OUTPUT is no such word", "answered: OUTPUT is no such word"),
        ("a \x1b[2J b: refused", "shown as it is"),
        ("refused", ""),
    ],
)
def test_an_answer_is_judged_by_what_it_holds(answer: str, found: str) -> None:
    act = Act("x", "bash", {}, Attempt("try", "wall"), expect="refused", forbidden="\x1b")
    assert act.judge(answer, MARK) == found
