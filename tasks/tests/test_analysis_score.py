"""The quality score follows its formula: worse figures never raise it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tasks.analysis.score import POINTS, Figures, parts_lost, quality_score

COUNTS = st.integers(0, 10_000)
SHARES = st.floats(0, 1)
PERCENTS = st.floats(0, 100)
FIGURES = st.builds(
    Figures,
    lines=st.integers(0, 1_000_000),
    smells=COUNTS,
    complex_share=SHARES,
    type_errors=COUNTS,
    security=st.tuples(COUNTS, COUNTS, COUNTS),
    coverage_percent=PERCENTS,
)
CLEAN = Figures(
    lines=1000,
    smells=0,
    complex_share=0.0,
    type_errors=0,
    security=(0, 0, 0),
    coverage_percent=100.0,
)


def score(figures: Figures) -> float:
    result = quality_score(figures)
    assert result is not None
    return result


def test_clean_code_scores_ten() -> None:
    assert score(CLEAN) == 10


def test_the_formula_is_the_documented_one() -> None:
    halves = Figures(
        lines=2000,
        smells=40,
        complex_share=0.125,
        type_errors=20,
        security=(1, 0, 0),
        coverage_percent=50,
    )
    assert parts_lost(halves) == dict.fromkeys(POINTS, 0.5)
    assert score(halves) == 5


@given(FIGURES)
def test_the_score_stays_between_zero_and_ten(figures: Figures) -> None:
    assert 0 <= score(figures) <= 10


@given(FIGURES, COUNTS)
def test_more_smells_never_raise_the_score(figures: Figures, more: int) -> None:
    worse = replace(figures, smells=(figures.smells or 0) + more)
    assert score(worse) <= score(figures)


@given(FIGURES, COUNTS)
def test_more_type_errors_never_raise_the_score(figures: Figures, more: int) -> None:
    worse = replace(figures, type_errors=(figures.type_errors or 0) + more)
    assert score(worse) <= score(figures)


@given(FIGURES, st.tuples(COUNTS, COUNTS, COUNTS))
def test_more_security_issues_never_raise_the_score(
    figures: Figures, more: tuple[int, int, int]
) -> None:
    high, medium, low = figures.security or (0, 0, 0)
    worse = replace(figures, security=(high + more[0], medium + more[1], low + more[2]))
    assert score(worse) <= score(figures)


@given(FIGURES, SHARES)
def test_more_complex_functions_never_raise_the_score(figures: Figures, share: float) -> None:
    worse = replace(figures, complex_share=max(share, figures.complex_share or 0))
    assert score(worse) <= score(figures)


@given(FIGURES, PERCENTS)
def test_less_coverage_never_raises_the_score(figures: Figures, percent: float) -> None:
    worse = replace(figures, coverage_percent=min(percent, figures.coverage_percent or 0))
    assert score(worse) <= score(figures)


def test_a_high_issue_weighs_more_than_a_low_one() -> None:
    high, low = replace(CLEAN, security=(1, 0, 0)), replace(CLEAN, security=(0, 0, 1))
    assert score(high) < score(low) < 10


def test_what_was_not_measured_neither_helps_nor_harms() -> None:
    assert score(replace(CLEAN, coverage_percent=None, type_errors=None)) == 10
    assert set(parts_lost(Figures(lines=10, smells=0))) == {"smells"}


def test_without_smells_and_complexity_there_is_no_score() -> None:
    assert quality_score(Figures(lines=10, type_errors=0, security=(0, 0, 0))) is None
