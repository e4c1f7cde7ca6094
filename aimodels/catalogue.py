"""The models of the platform with their prices, from the dated table of ``genai-prices``.

Nothing here is from memory: which models are current, what they hold and what they cost follows
by rule from the table. Staff's own settings (active, output limit, capabilities) are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django.db import transaction

from aimodels.models import TASK_TYPES, AIModel, ProviderKind
from aimodels.prices import TOKENS_PER_PRICE

BUILTIN_CAPABILITIES = ["analysis", "pr_review", "documentation", "ask", "debug"]
MINIMUM_WINDOW = 100_000
"""Tokens: less does not hold a repository's brief and a long conversation with tools."""
MAX_OUTPUT_TOKENS = 16_384
"""What the platform asks for in one answer; its worst case is reserved before each call."""

# The table's provider, our provider, and how the provider's own models are named.
PROVIDERS = (
    ("anthropic", ProviderKind.ANTHROPIC, "claude-"),
    ("openai", ProviderKind.OPENAI, "gpt-"),
    ("google", ProviderKind.GEMINI, "gemini-"),
)
# Variants that answer in something other than text and tool calls, or only to invited customers.
OTHER_KINDS = {
    "audio", "chat", "cyber", "embedding", "image", "live", "moderation", "oss", "realtime",
    "robotics", "search", "transcribe", "tts", "vision",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One current model of the table, in the words of AIModel."""

    provider: str
    name: str
    display_name: str
    description: str
    context_window: int
    prices: dict[str, Decimal | None]
    rules: list[dict[str, Any]]
    priced_at: date | None
    preference: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """How many rows a load made and changed."""

    created: int
    updated: int


def entries(*, today: date | None = None) -> list[Entry]:
    """Return the current coding models: the newest of each family of the two newest generations."""
    from genai_prices.data import providers  # The table is large; only this function needs it.

    day = today or datetime.now(UTC).date()
    table = {provider.id: provider for provider in providers}
    found: list[Entry] = []
    for their_id, kind, prefix in PROVIDERS:
        models = _current(table[their_id].models, prefix, day)
        dated = _newest_date(table[their_id].models, day)
        # The middle of a provider's price list is a fair first choice; staff may rank otherwise.
        middle = len(models) // 2
        found += [
            _entry(kind, model, day, dated, abs(place - middle))
            for place, model in enumerate(models)
        ]
    return found


@transaction.atomic
def load(*, today: date | None = None) -> Loaded:
    """Create or reprice the catalogue's rows; what staff decide about a row is left alone."""
    load_builtin()
    made = changed = 0
    known = {(row.provider, row.name): row for row in AIModel.objects.filter(owner=None)}
    for entry in entries(today=today):
        values = {
            "display_name": entry.display_name,
            "description": entry.description,
            "context_window": entry.context_window,
            "price_rules": entry.rules,
            "priced_at": entry.priced_at,
            **entry.prices,
        }
        row = known.get((entry.provider, entry.name))
        changed += row is not None and any(
            getattr(row, name) != value for name, value in values.items()
        )
        _, is_new = AIModel.objects.update_or_create(
            owner=None,
            provider=entry.provider,
            name=entry.name,
            defaults=values,
            create_defaults=values
            | {
                "capabilities": list(TASK_TYPES),
                "max_output_tokens": MAX_OUTPUT_TOKENS,
                "preference": entry.preference,
            },
        )
        made += is_new
    return Loaded(created=made, updated=changed)


def load_builtin() -> AIModel:
    """Make sure that the built-in engine's row exists; it costs nothing."""
    builtin, _ = AIModel.objects.get_or_create(
        owner=None,
        provider=ProviderKind.BUILTIN,
        name="builtin",
        defaults={
            "display_name": "Built-in engine",
            "description": "Real analysers and safe automatic fixes; needs no key and no network.",
            "capabilities": BUILTIN_CAPABILITIES,
            "input_price": 0,
            "cached_input_price": 0,
            "cache_write_price": 0,
            "output_price": 0,
            "preference": 1000,
        },
    )
    return builtin


def _current(models: Iterable[Any], prefix: str, day: date) -> list[Any]:
    """Return the newest model of each recent family, the cheapest first."""
    usable = [model for model in models if _codes(model, prefix, day)]
    newest = max((_version(model.id)[0] for model in usable), default=0)
    families: dict[str, Any] = {}
    for model in sorted(usable, key=lambda model: _version(model.id)):
        if _version(model.id)[0] >= newest - 1:
            families[_family(model.id)] = model
    return sorted(families.values(), key=lambda model: (_base_price(model, day), model.id))


def _codes(model: Any, prefix: str, day: date) -> bool:
    """Tell whether a model takes and gives text at a known price, with room for a repository."""
    words = set(re.split(r"[-:]", model.id))
    prices = _prices_on(model, day)
    return bool(
        model.id.startswith(prefix)
        and not model.deprecated
        and "limited availability" not in (model.price_comments or "")
        and not words & OTHER_KINDS
        and _version(model.id)
        and (model.context_window or 0) >= MINIMUM_WINDOW
        and prices.input_mtok
        and prices.output_mtok
    )


def _version(name: str) -> tuple[int, ...]:
    """Return the numbers of a name: claude-opus-5-5 and gpt-5.5-pro are (5, 5).

    A name with a date in it is a snapshot of another model: it has none.
    """
    parts = [part for part in re.split(r"[-.]", name) if part.isdigit()]
    return () if any(len(part) > 3 for part in parts) else tuple(int(part) for part in parts)


def _family(name: str) -> str:
    """Return a name without its version and stage: gpt-5.4-mini is gpt-mini."""
    words = [word for word in name.split("-") if not re.fullmatch(r"[\d.]+|preview|latest", word)]
    return "-".join(words)


def _prices_on(model: Any, day: date) -> Any:
    return model.get_prices(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _base_price(model: Any, day: date) -> Decimal:
    return _tier(_prices_on(model, day).output_mtok, 0) or Decimal(0)


def _entry(kind: str, model: Any, day: date, dated: date | None, preference: int) -> Entry:
    return Entry(
        provider=kind,
        name=model.id,
        display_name=model.name or model.id,
        description=(model.description or "").strip(),
        context_window=model.context_window,
        prices=_columns(_prices_on(model, day), 0),
        rules=_rules(model, day),
        priced_at=dated,
        preference=preference,
    )


def _rules(model: Any, day: date) -> list[dict[str, Any]]:
    """Return the dearer prices of long prompts and the prices of days to come, in their order."""
    rules = []
    for begins in [None, *_days_to_come(model, day)]:
        prices = _prices_on(model, begins or day)
        for above in sorted(_steps(prices) | ({0} if begins else set())):
            columns = {name: str(price) for name, price in _columns(prices, above + 1).items()
                       if price is not None}  # fmt: skip
            rules.append({"from": begins and begins.isoformat(), "above": above, **columns})
    return rules


def _days_to_come(model: Any, day: date) -> list[date]:
    if not isinstance(model.prices, list):
        return []
    begins = (getattr(price.constraint, "start_date", None) for price in model.prices)
    return sorted(start for start in begins if start and start > day)


def _columns(prices: Any, input_tokens: int) -> dict[str, Decimal | None]:
    """Return our columns, in US$ per token, for a prompt of this size."""
    names = {
        "input_price": prices.input_mtok,
        "cached_input_price": prices.cache_read_mtok,
        "cache_write_price": prices.cache_write_mtok,
        "output_price": prices.output_mtok,
    }
    tiers = {name: _tier(price, input_tokens) for name, price in names.items()}
    return {name: None if p is None else p / TOKENS_PER_PRICE for name, p in tiers.items()}


def _steps(prices: Any) -> set[int]:
    """Return the prompt sizes above which some price is another."""
    columns = (
        prices.input_mtok,
        prices.cache_read_mtok,
        prices.cache_write_mtok,
        prices.output_mtok,
    )
    return {tier.start for price in columns for tier in getattr(price, "tiers", ())}


def _tier(price: Any, input_tokens: int) -> Decimal | None:
    """Return a price as it is for a prompt of this size: one tier counts for all its tokens."""
    found: Decimal | None = getattr(price, "base", price)
    for tier in getattr(price, "tiers", ()):
        if input_tokens > tier.start:
            found = tier.price
    return found


def _newest_date(models: Sequence[Any], day: date) -> date | None:
    """Return the last day that the table itself names for these prices, up to today."""
    texts = (model.price_comments or "" for model in models)
    named = [
        date.fromisoformat(text) for comment in texts
        for text in re.findall(r"\b20\d\d-[01]\d-[0-3]\d\b", comment)
    ]  # fmt: skip
    for model in models:
        for price in [*(model.price_variants or []), *_conditional(model)]:
            if start := getattr(price.constraint, "start_date", None):
                named.append(start)
    return max((found for found in named if found <= day), default=None)


def _conditional(model: Any) -> Sequence[Any]:
    return model.prices if isinstance(model.prices, list) else []
