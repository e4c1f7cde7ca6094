from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from campaigns.report import Report, write_into


def test_a_report_is_a_table_with_its_losses() -> None:
    report = Report("Kills", ["where", "kills"], facts={"runs": 3})
    report.add("model | call", 2)
    report.expect(True, "never said")
    report.expect(False, "a charge\nwas doubled")
    assert report.markdown().splitlines() == [
        "**Kills**",
        "",
        "- runs: 3",
        "",
        "| where | kills |",
        "| --- | --- |",
        "| model \\| call | 2 |",
        "",
        "Losses: 1",
        "- a charge was doubled",
    ]


def test_a_row_must_fit() -> None:
    with pytest.raises(ValueError, match="1 cells for 2"):
        Report("Kills", ["where", "kills"]).add("here")


def test_only_what_stands_between_the_marks_is_replaced(tmp_path: Path) -> None:
    document = tmp_path / "campaigns.md"
    document.write_text("# Top\n<!-- campaign kill -->\nold\n<!-- end of kill -->\nbelow\n")
    write_into(document, "kill", Report("Kills", []))
    text = document.read_text()
    assert text.startswith("# Top\n<!-- campaign kill -->\n**Kills**")
    assert text.endswith("<!-- end of kill -->\nbelow\n")
    assert "old" not in text


def test_a_document_without_marks_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "campaigns.md"
    document.write_text("# Top\n")
    with pytest.raises(ValueError, match="no place for the campaign kill"):
        write_into(document, "kill", Report("Kills", []))
    assert document.read_text() == "# Top\n"


def test_an_unknown_campaign_is_refused_with_the_list() -> None:
    command = [sys.executable, "-m", "campaigns", "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "invalid choice: 'nothing'" in done.stderr
