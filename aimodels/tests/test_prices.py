"""What a call costs: exact, rounded up once, refused where a price is unknown."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimodels.errors import PriceUnknown
from aimodels.models import AIModel
from aimodels.providers.base import Usage

CREDIT = 1_000_000


def model(**values: object) -> AIModel:
    prices = {
        "input_price": Decimal("0.000002"),
        "cached_input_price": Decimal("0.0000002"),
        "cache_write_price": Decimal("0.0000025"),
        "output_price": Decimal("0.00001"),
    }
    return AIModel(name="m", **(prices | values))


def test_a_million_tokens_cost_the_price_of_a_million_tokens() -> None:
    assert model().cost_microcredits(Usage(input=1_000_000)) == 200 * CREDIT
    assert model().cost_microcredits(Usage(output=1_000_000)) == 1000 * CREDIT


def test_cached_and_written_tokens_are_shares_of_the_input() -> None:
    usage = Usage(input=1_000_000, cached=600_000, cache_written=100_000, output=0)
    # 300,000 fresh at $2, 600,000 cached at $0.2, 100,000 written at $2.5, per million: $0.97.
    assert model().cost_microcredits(usage) == 97 * CREDIT


def test_the_smallest_use_is_rounded_up_not_away() -> None:
    cheap = model(input_price=Decimal("0.000000000001"))
    assert cheap.cost_microcredits(Usage(input=1)) == 1


def test_nothing_used_costs_nothing() -> None:
    assert model().cost_microcredits(Usage()) == 0


def test_the_value_of_a_credit_is_a_setting(settings: Any) -> None:
    settings.CREDIT_USD = "0.03"
    assert model().cost_microcredits(Usage(input=1_000_000)) == 66_666_667


def test_a_missing_cache_price_falls_back_to_the_input_price() -> None:
    plain = model(cached_input_price=None, cache_write_price=None)
    usage = Usage(input=1_000_000, cached=500_000, cache_written=500_000)
    assert plain.cost_microcredits(usage) == 200 * CREDIT


@pytest.mark.parametrize(
    ("missing", "usage"),
    [("input_price", Usage(input=1)), ("output_price", Usage(output=1))],
)
def test_an_unknown_price_that_is_needed_is_refused(missing: str, usage: Usage) -> None:
    with pytest.raises(PriceUnknown):
        model(**{missing: None}).cost_microcredits(usage)
    with pytest.raises(PriceUnknown):
        model(**{missing: None}).worst_case_microcredits(1, 1)


def test_an_unknown_price_that_is_not_needed_is_no_matter() -> None:
    assert model(output_price=None).cost_microcredits(Usage(input=1_000_000)) == 200 * CREDIT


def test_a_model_without_price_is_free_only_if_it_says_so() -> None:
    free = dict.fromkeys(
        ["input_price", "cached_input_price", "cache_write_price", "output_price"], Decimal(0)
    )
    assert model(**free).worst_case_microcredits(10**6, 10**6) == 0


LONG = {
    "from": None,
    "above": 100_000,
    "input_price": "0.00001",
    "cached_input_price": "0.000001",
    "output_price": "0.00005",
}
DEARER = {"from": "2026-12-01", "above": 0, "input_price": "0.000004", "output_price": "0.00002"}


def test_a_long_prompt_pays_the_long_price_for_all_its_tokens() -> None:
    tiered = model(price_rules=[LONG])
    assert tiered.cost_microcredits(Usage(input=100_000)) == 20 * CREDIT
    assert tiered.cost_microcredits(Usage(input=100_001)) == 100 * CREDIT + 1_000
    assert tiered.cost_microcredits(Usage(input=100_001, output=1000)) == 105 * CREDIT + 1_000


def test_a_price_changes_on_its_day() -> None:
    dated = model(price_rules=[DEARER])
    before, after = date(2026, 11, 30), date(2026, 12, 1)
    assert dated.prices(0, on=before).input_price == Decimal("0.000002")
    assert dated.prices(0, on=after).input_price == Decimal("0.000004")
    assert dated.prices(10**6, on=after).output_price == Decimal("0.00002")


def test_a_rule_without_a_price_makes_it_unknown_not_the_old_one() -> None:
    odd = model(price_rules=[{"from": None, "above": 10, "input_price": "0.1"}])
    with pytest.raises(PriceUnknown):
        odd.cost_microcredits(Usage(input=11, output=1))


@given(
    size=st.integers(0, 300_000),
    output=st.integers(0, 50_000),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    used=st.floats(0, 1),
    rules=st.sampled_from([[], [LONG], [DEARER], [LONG, DEARER]]),
)
def test_no_call_costs_more_than_its_worst_case(
    size: int,
    output: int,
    shares: tuple[float, float],
    used: float,
    rules: list[dict[str, Any]],
) -> None:
    some = model(price_rules=rules)
    real = int(size * used)
    cached = int(real * shares[0])
    written = int((real - cached) * shares[1])
    usage = Usage(input=real, cached=cached, cache_written=written, output=int(output * used))
    assert some.cost_microcredits(usage) <= some.worst_case_microcredits(size, output)


@given(
    price=st.decimals("0", "0.01", places=12),
    tokens=st.integers(0, 2_000_000),
)
def test_the_charge_is_the_exact_price_rounded_up(price: Decimal, tokens: int) -> None:
    exact = Fraction(price) * tokens / Fraction("0.01") * CREDIT
    charged = model(input_price=price).cost_microcredits(Usage(input=tokens))
    assert 0 <= charged - exact < 1
