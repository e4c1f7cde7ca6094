"""The quality score: one number from 0 (bad) to 10, by a formula that anyone can check.

Each part that was measured may cost some points; the rest is scaled to 10, so a part that was
not measured neither helps nor harms::

    part        points   lost
    smells         3.0   d / (d + 20)       d: code smells per 1000 lines of code
    complexity     2.0   share / 0.25       share of functions with a complexity above 10
    types          1.5   d / (d + 10)       d: type errors per 1000 lines of code
    security       2.5   w / (w + 5)        w: 10 high + 3 medium + 0.3 low per 1000 lines
    coverage       1.0   1 - percent / 100

    score = 10 * (1 - sum(points * lost) / sum(points))

No part loses more than all its points. There is no score where neither smells nor complexity
were measured. The weights are our judgement; each figure can only lower the score as it worsens.
"""

from __future__ import annotations

from dataclasses import dataclass

POINTS = {"smells": 3.0, "complexity": 2.0, "types": 1.5, "security": 2.5, "coverage": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the score is made of; None where it was not measured."""

    lines: int
    """Lines with text in source files."""
    smells: int | None = None
    complex_share: float | None = None
    type_errors: int | None = None
    security: tuple[int, int, int] | None = None
    """Issues of high, medium and low severity."""
    coverage_percent: float | None = None


def quality_score(figures: Figures) -> float | None:
    """Return the score, rounded to a tenth, or None where too little was measured."""
    lost = parts_lost(figures)
    if not lost.keys() & {"smells", "complexity"}:
        return None
    points = sum(POINTS[part] for part in lost)
    return round(10 * (1 - sum(POINTS[part] * share for part, share in lost.items()) / points), 1)


def parts_lost(figures: Figures) -> dict[str, float]:
    """Return, for each part that was measured, the share of its points that is lost (0 to 1)."""
    lost: dict[str, float] = {}
    thousands = max(figures.lines, 100) / 1000
    if figures.smells is not None:
        lost["smells"] = _saturate(figures.smells / thousands, half=20)
    if figures.complex_share is not None:
        lost["complexity"] = min(1.0, figures.complex_share / 0.25)
    if figures.type_errors is not None:
        lost["types"] = _saturate(figures.type_errors / thousands, half=10)
    if figures.security is not None:
        high, medium, low = figures.security
        lost["security"] = _saturate((10 * high + 3 * medium + 0.3 * low) / thousands, half=5)
    if figures.coverage_percent is not None:
        lost["coverage"] = 1 - min(max(figures.coverage_percent, 0), 100) / 100
    return lost


def _saturate(value: float, *, half: float) -> float:
    """Return 0 for 0, a half for ``half``, and never more than 1."""
    return value / (value + half)
