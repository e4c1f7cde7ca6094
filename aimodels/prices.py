"""What tokens cost: exact fractions of a US$, then whole microcredits, rounded up once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from fractions import Fraction
from typing import Any, Self

from django.conf import settings

from aimodels.errors import PriceUnknown
from aimodels.providers.base import Usage

MICROCREDITS = 1_000_000
TOKENS_PER_PRICE = Decimal(1_000_000)
"""Price tables speak of a million tokens; our columns of one."""


@dataclass(frozen=True, slots=True)
class Prices:
    """US$ per token. Cached input and cache writes fall back to the input price; None is unknown."""

    input_price: Decimal | None
    cached_input_price: Decimal | None
    cache_write_price: Decimal | None
    output_price: Decimal | None

    @classmethod
    def of(cls, source: Mapping[str, Any]) -> Self:
        """Read them from a rule's JSON, where a price is text."""
        texts = (source.get(field.name) for field in fields(cls))
        return cls(*(None if text is None else Decimal(text) for text in texts))

    def usd(self, usage: Usage) -> Fraction:
        """Return the exact price; raise PriceUnknown when a price that is needed is null."""
        fresh = max(usage.input - usage.cached - usage.cache_written, 0)
        return (
            _cost(fresh, self.input_price)
            + _cost(usage.cached, self.cached_input_price, self.input_price)
            + _cost(usage.cache_written, self.cache_write_price, self.input_price)
            + _cost(usage.output, self.output_price)
        )

    def worst_usd(self, *, input_tokens: int, output_tokens: int) -> Fraction:
        """Return the dearest way in which so many tokens can be billed."""
        if self.input_price is None or self.output_price is None:
            raise PriceUnknown
        dearest = max(
            self.input_price,
            self.cache_write_price or Decimal(0),
            self.cached_input_price or Decimal(0),
        )
        return _cost(input_tokens, dearest) + _cost(output_tokens, self.output_price)


def microcredits(usd: Fraction) -> int:
    """Return what a sum in US$ costs in microcredits, rounded up (CREDIT_USD is a credit)."""
    return math.ceil(usd / Fraction(settings.CREDIT_USD) * MICROCREDITS)


def per_million(price: Decimal | None) -> str | None:
    """Write a price per token as price lists do: US$ per million tokens, without idle zeros."""
    return None if price is None else f"{(price * TOKENS_PER_PRICE).normalize():f}"


def _cost(tokens: int, *prices: Decimal | None) -> Fraction:
    if not tokens:
        return Fraction(0)
    for price in prices:
        if price is not None:
            return Fraction(price) * tokens
    raise PriceUnknown
