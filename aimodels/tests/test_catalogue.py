"""The catalogue follows the installed price table, by rule, and keeps what staff decided."""

from __future__ import annotations

from datetime import UTC, date, datetime
from io import StringIO

import pytest
from django.core.management import call_command
from genai_prices import Usage as TableUsage
from genai_prices import calc_price

from aimodels import catalogue
from aimodels.models import AIModel, ProviderKind
from aimodels.providers.base import Usage

TODAY = date(2026, 11, 22)
CALL = Usage(input=150_000, cached=40_000, cache_written=10_000, output=3_000)
SHORT = Usage(input=20_000, cached=4_000, cache_written=1_000, output=500)
TABLE = {"anthropic": "anthropic", "openai": "openai", "gemini": "google"}


def test_every_provider_has_models_and_all_can_hold_a_repository() -> None:
    entries = catalogue.entries(today=TODAY)
    assert {entry.provider for entry in entries} == set(TABLE)
    assert all(entry.context_window >= catalogue.MINIMUM_WINDOW for entry in entries)
    assert all(entry.prices["input_price"] and entry.prices["output_price"] for entry in entries)


def test_only_models_that_write_text_are_taken() -> None:
    names = " ".join(entry.name for entry in catalogue.entries(today=TODAY))
    for word in ("image", "audio", "tts", "realtime", "embedding", "transcribe", "live"):
        assert word not in names


def test_one_model_of_each_family_the_newest() -> None:
    names = [entry.name for entry in catalogue.entries(today=TODAY)]
    families = [catalogue._family(name) for name in names]
    assert len(families) == len(set(families))
    opus = [name for name in names if "opus" in name]
    from genai_prices.data import providers

    table = next(provider for provider in providers if provider.id == "anthropic")
    all_opus = [model.id for model in table.models if model.id.startswith("claude-opus-")]
    assert opus == [max(all_opus, key=catalogue._version)]


def test_prices_are_dated_by_the_table_not_by_the_clock() -> None:
    for entry in catalogue.entries(today=TODAY):
        assert entry.priced_at
        assert date(2026, 1, 1) < entry.priced_at <= TODAY


@pytest.mark.parametrize("usage", [CALL, SHORT], ids=["long", "short"])
@pytest.mark.parametrize("day", [TODAY, date(2027, 1, 2)], ids=str)
def test_our_cost_is_the_tables_own_calculation(db: None, usage: Usage, day: date) -> None:
    """The table's package calculates the same call itself: the two must agree, for every row."""
    catalogue.load(today=TODAY)
    theirs = TableUsage(
        input_tokens=usage.input,
        output_tokens=usage.output,
        cache_read_tokens=usage.cached,
        cache_write_tokens=usage.cache_written,
    )
    for model in AIModel.objects.exclude(provider=ProviderKind.BUILTIN):
        expected = calc_price(
            theirs,
            model.name,
            provider_id=TABLE[model.provider],
            genai_request_timestamp=datetime(day.year, day.month, day.day, tzinfo=UTC),
        ).total_price
        ours = model.prices(usage.input, on=day).usd(usage)
        assert float(ours) == pytest.approx(float(expected), rel=1e-9), model.name


def test_loading_twice_changes_nothing(db: None) -> None:
    first = catalogue.load(today=TODAY)
    second = catalogue.load(today=TODAY)
    assert (second.created, second.updated) == (0, 0)
    assert AIModel.objects.count() == first.created + 1


def test_a_reload_reprices_but_keeps_what_staff_decided(db: None) -> None:
    catalogue.load(today=TODAY)
    model = AIModel.objects.filter(provider=ProviderKind.ANTHROPIC)[0]
    price = model.input_price
    AIModel.objects.filter(pk=model.pk).update(
        is_active=False,
        input_price=None,
        max_output_tokens=1234,
        capabilities=["ask"],
        preference=7,
    )
    assert catalogue.load(today=TODAY).updated == 1
    model.refresh_from_db()
    assert model.input_price == price
    assert (model.is_active, model.max_output_tokens) == (False, 1234)
    assert (model.capabilities, model.preference) == (["ask"], 7)


def test_a_fresh_database_has_the_built_in_engine_at_no_price(db: None) -> None:
    builtin = AIModel.objects.get(provider=ProviderKind.BUILTIN)
    assert builtin.capabilities == ["analysis", "pr_review", "documentation", "ask", "debug"]
    assert builtin.cost_microcredits(CALL) == 0


def test_the_command_loads_and_lists(db: None) -> None:
    out = StringIO()
    call_command("loadmodels", "--list", stdout=out)
    assert "per million" in out.getvalue()
    assert AIModel.objects.count() == 1
    call_command("loadmodels", stdout=out)
    assert "models created, 0 repriced" in out.getvalue()
    assert AIModel.objects.count() > 3


@pytest.mark.parametrize(
    ("name", "version", "family"),
    [
        ("claude-opus-5-5", (5, 5), "claude-opus"),
        ("gpt-5.4-mini", (5, 4), "gpt-mini"),
        ("gemini-3.1-pro-preview", (3, 1), "gemini-pro"),
        ("gpt-4o-2024-05-13", (), "gpt-4o"),
        ("gpt-audio", (), "gpt-audio"),
    ],
)
def test_names_are_read_by_rule(name: str, version: tuple[int, ...], family: str) -> None:
    assert (catalogue._version(name), catalogue._family(name)) == (version, family)
