"""What a campaign found: one table, and a line for every loss."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Report:
    """The outcome of a campaign; without a loss it is good.

    ``facts`` are named single figures, ``columns`` and ``rows`` the table below them.
    """

    title: str
    columns: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        """Append a row; raise ValueError when it does not fit the columns."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns")
        self.rows.append(cells)

    def expect(self, holds: object, loss: str) -> None:
        """Note a loss unless the condition holds."""
        if not holds:
            self.losses.append(loss)

    def markdown(self) -> str:
        """Return the facts and the table, as they stand in the documents."""
        lines = [f"**{self.title}**", ""]
        lines += [f"- {name}: {value}" for name, value in self.facts.items()]
        lines += [""] if self.facts else []
        if self.rows:
            lines += [_line(self.columns), _line(["---"] * len(self.columns))]
            lines += [_line(row) for row in self.rows]
            lines += [""]
        lines += [f"Losses: {len(self.losses)}"]
        return "\n".join([*lines, *(f"- {_cell(loss)}" for loss in self.losses)])


def _line(cells: Sequence[object]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(value: object) -> str:
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|").strip()


def write_into(document: Path, name: str, report: Report) -> None:
    """Replace what stands between a campaign's two marks in a document.

    The marks are ``<!-- campaign NAME -->`` and ``<!-- end of NAME -->``, each on its own line.
    Raises ValueError when they are not there.
    """
    begin, end = f"<!-- campaign {name} -->", f"<!-- end of {name} -->"
    text = document.read_text()
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"{document} has no place for the campaign {name}: {begin} … {end}")
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    document.write_text(f"{head}{begin}\n{report.markdown()}\n{end}{tail}")
