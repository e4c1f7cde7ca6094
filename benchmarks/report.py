"""How a benchmark measures and what it prints: one JSON line a case, one a goal.

Ours and the yardstick take turns in the same run. A ratio is the median of the rounds' ratios;
where the yardstick itself spreads more than threefold over the rounds, nothing is judged.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

NOISY = 3.0
"""Largest over smallest value of the yardstick's rounds above which a run proves nothing."""


@dataclass
class Series:
    """The values of one case, a list a round. ``unit`` is milliseconds unless it says otherwise."""

    bench: str
    case: str
    rounds: list[list[float]] = field(default_factory=list)
    unit: str = "ms"
    cpu_ms: list[float] = field(default_factory=list)
    """CPU time of the whole process group, user and system, a figure a round."""
    rss_mb: float | None = None

    def medians(self) -> list[float]:
        return [statistics.median(values) for values in self.rounds]

    def p(self, share: float) -> float:
        """Return a percentile over all rounds, ``share`` from 0 to 1."""
        values = sorted(value for values in self.rounds for value in values)
        return values[min(len(values) - 1, int(share * len(values)))]

    def print(self) -> None:
        line: dict[str, object] = {
            "bench": self.bench, "case": self.case, "unit": self.unit,
            "n": sum(len(values) for values in self.rounds), "rounds": len(self.rounds),
            "p50": _short(statistics.median(self.medians())), "p99": _short(self.p(0.99)),
        }  # fmt: skip
        if self.cpu_ms:
            line["cpu_ms"] = _short(statistics.median(self.cpu_ms))
        if self.rss_mb is not None:
            line["rss_mb"] = _short(self.rss_mb)
        print(json.dumps(line), flush=True)


def interleave(
    measures: Mapping[str, Callable[[], Sequence[float]]],
    *,
    bench: str,
    rounds: int,
    unit: str = "ms",
) -> dict[str, Series]:
    """Let every case take its turn, round after round; a first round warms up and is forgotten."""
    series = {case: Series(bench, case, unit=unit) for case in measures}
    for number in range(rounds + 1):
        for case, measure in measures.items():
            print(f"{bench}: round {number}/{rounds} {case}", file=sys.stderr, flush=True)
            values = list(measure())
            if number:
                series[case].rounds.append(values)
    return series


def judge(
    name: str, ours: Sequence[float], yardstick: Sequence[float], *, goal: float, against: str
) -> bool:
    """Print the ratio of the rounds' figures against its goal; False when the goal is missed.

    ``ours`` and ``yardstick`` hold one figure a round, in the same order. A noisy yardstick is
    said and not judged.
    """
    ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, yardstick, strict=True))
    spread = max(yardstick) / min(yardstick)
    line: dict[str, object] = {"goal_of": name, "against": against, "ratio": _short(ratio)}
    line |= {"goal": goal, "ok": ratio <= goal}
    if spread > NOISY:
        line |= {"ok": None, "noisy": f"the yardstick spreads {spread:.1f}x over the rounds"}
    print(json.dumps(line), flush=True)
    return line["ok"] is not False


def judge_figure(name: str, value: float, *, goal: float, unit: str = "ms") -> bool:
    """Print a figure against an absolute goal; False when the goal is missed."""
    is_good = value <= goal
    print(
        json.dumps(
            {"goal_of": name, "value": _short(value), "unit": unit, "goal": goal, "ok": is_good}
        ),
        flush=True,
    )
    return is_good


def _short(value: float) -> float:
    return float(f"{value:.4g}")
