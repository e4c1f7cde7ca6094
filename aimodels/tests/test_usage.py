"""What calls used: a row a day, a log for users' own keys, and nothing lost between runs at once."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from aimodels import access, keys, usage
from aimodels.errors import KeyRefused
from aimodels.models import AIModel, KeyProvider, KeyUsage, ModelUsage, ProviderKey
from aimodels.providers.base import Usage
from aimodels.tests.make import make_model
from aimodels.usage import Call, Work

TOKENS = Usage(input=1_000, cached=400, output=100)
LOG = "/api/v1/api-keys/usage"
PROVIDERS = "/api/v1/api-keys/providers"


def call(user: User, model: AIModel, **values: Any) -> Call:
    given: dict[str, Any] = {"reference": "task:1:call:1", "tokens": TOKENS, "seconds": 1.5}
    return Call(model=model, user_id=user.pk, **(given | values))


def work(**values: Any) -> Work:
    return Work(**({"task_type": "debug", "repository_id": None} | values))


def test_calls_of_a_day_are_one_row_for_each_model_type_and_repository(alice: User) -> None:
    model, other = make_model(), make_model("other")
    repository = uuid.uuid4()
    for _ in range(3):
        usage.record(call(alice, model), work(charged_microcredits=7))
    usage.record(call(alice, model, failure="ProviderBusy", tokens=Usage()), work())
    usage.record(call(alice, model), work(repository_id=repository))
    usage.record(call(alice, model), work(repository_id=repository))
    usage.record(call(alice, model), work(task_type="ask"))
    usage.record(call(alice, other), work())
    assert ModelUsage.objects.count() == 4
    row = ModelUsage.objects.get(model=model, task_type="debug", repository_id=None)
    assert (row.calls, row.failures, row.input_tokens, row.cached_tokens) == (4, 1, 3_000, 1_200)
    assert (row.output_tokens, row.charged_microcredits, row.duration_ms) == (300, 21, 6_000)
    assert ModelUsage.objects.get(repository_id=repository).calls == 2


def test_another_day_and_another_user_have_their_own_row(alice: User, mallory: User) -> None:
    model = make_model()
    with time_machine.travel(datetime(2026, 1, 1, 23, 59, tzinfo=UTC), tick=False) as clock:
        usage.record(call(alice, model), work())
        clock.shift(timedelta(minutes=2))
        usage.record(call(alice, model), work())
        usage.record(call(mallory, model), work())
    days = ModelUsage.objects.order_by("day").values_list("user__username", "day__day")
    assert sorted(days) == [("alice", 1), ("alice", 2), ("mallory", 2)]


def test_a_call_with_the_own_key_is_in_its_log_and_notes_its_use(alice: User) -> None:
    key = keys.add(user=alice, provider="anthropic", plain="sk-test-0123456789abcdefWXYZ")
    usage.record(call(alice, make_model(), key_id=key.pk), work(is_own_key=True))
    entry = KeyUsage.objects.get()
    assert (entry.user, entry.key_id, entry.masked) == (alice, key.pk, "••••WXYZ")
    # 600 fresh tokens at 2 millionths of a dollar, 400 cached at a tenth, 100 out at 10.
    assert entry.price_usd == Decimal("0.002280000")
    assert (entry.input_tokens, entry.output_tokens, entry.duration_ms) == (1_000, 100, 1_500)
    key.refresh_from_db()
    assert key.last_used_at is not None
    assert ModelUsage.objects.get().own_key_calls == 1


def test_a_call_on_credits_is_in_no_log(alice: User) -> None:
    usage.record(call(alice, make_model()), work(charged_microcredits=7))
    assert not KeyUsage.objects.exists()


def test_a_key_that_was_removed_meanwhile_is_no_obstacle(alice: User) -> None:
    key = keys.add(user=alice, provider="anthropic", plain="sk-test-0123456789abcdefWXYZ")
    gone = key.pk
    usage.record(call(alice, make_model(), key_id=gone), work())
    key.delete()
    usage.record(call(alice, make_model("other"), key_id=gone), work())
    assert list(KeyUsage.objects.order_by("id").values_list("masked", flat=True)) == [
        "••••WXYZ",
        "",
    ]


def test_an_unknown_price_is_no_price(alice: User) -> None:
    key = keys.add(user=alice, provider="anthropic", plain="sk-test-0123456789abcdefWXYZ")
    model = make_model(input_price=None, output_price=None, cached_input_price=None)
    usage.record(call(alice, model, key_id=key.pk), work())
    assert KeyUsage.objects.get().price_usd is None


def test_tokens_beyond_all_sense_cost_nothing_sensible(alice: User) -> None:
    key = keys.add(user=alice, provider="anthropic", plain="sk-test-0123456789abcdefWXYZ")
    boast = Usage(input=10**15, output=10**15)
    usage.record(call(alice, make_model(), key_id=key.pk, tokens=boast), work())
    assert (KeyUsage.objects.get().price_usd, KeyUsage.objects.get().input_tokens) == (None, 10**15)


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_runs_at_once_lose_no_call() -> None:
    user = User.objects.create_user("ann", "ann@example.com")
    model = make_model()

    def attempt(_: int) -> None:
        try:
            usage.record(call(user, model), work(charged_microcredits=3))
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(attempt, range(60)))
    row = ModelUsage.objects.get()
    assert (row.calls, row.charged_microcredits, row.input_tokens) == (60, 180, 60_000)


# --- the routes -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [LOG, PROVIDERS])
def test_nobody_sees_them_without_signing_in(api: APIClient, db: None, path: str) -> None:
    assert api.get(path).status_code == 401


@pytest.mark.parametrize("path", [LOG, PROVIDERS])
def test_a_viewer_may_look(victor_api: APIClient, path: str) -> None:
    assert victor_api.get(path).status_code == 200


def test_the_log_is_the_owners_alone(
    alice_api: APIClient, mallory_api: APIClient, staff_api: APIClient, alice: User
) -> None:
    one = keys.add(user=alice, provider="anthropic", plain="sk-test-0123456789abcdefWXYZ")
    two = keys.add(user=alice, provider="anthropic", plain="sk-test-0123456789abcdefVUTS")
    for key in (one, two):
        usage.record(call(alice, make_model(str(key.pk)), key_id=key.pk), work())
    one.delete()
    body = alice_api.get(LOG).json()
    assert [row["masked"] for row in body["usage"]] == ["••••VUTS", "••••WXYZ"]
    assert body["usage"][0]["price_usd"] == 0.00228
    assert alice_api.get(f"{LOG}?key_id={two.pk}").json()["total"] == 1
    assert alice_api.get(f"{LOG}?key_id=x").status_code == 400
    for other in (mallory_api, staff_api):
        assert other.get(LOG).json()["total"] == 0
        assert other.get(f"{LOG}?key_id={two.pk}").json()["total"] == 0


def test_a_provider_that_staff_switched_off_takes_no_keys_and_uses_none(
    alice_api: APIClient, alice: User, settings: Any
) -> None:
    settings.OPENAI_API_KEY = ""
    model = make_model(provider="openai")
    keys.add(user=alice, provider="openai", plain="sk-test-0123456789abcdefWXYZ")
    listed = {row["id"] for row in alice_api.get(PROVIDERS).json()["providers"]}
    assert listed == {"anthropic", "custom", "gemini", "openai"}
    assert access.is_usable(model, alice)
    KeyProvider.objects.filter(slug="openai").update(is_active=False)
    assert not access.is_usable(model, alice)
    with pytest.raises(KeyRefused):
        keys.add(user=alice, provider="openai", plain="sk-test-0123456789abcdefWXYZ")
    given = {"provider": "openai", "key": "sk-test-0123456789abcdefWXYZ"}
    assert alice_api.post("/api/v1/api-keys", given).status_code == 400
    assert ProviderKey.objects.count() == 1
    listed = {row["id"] for row in alice_api.get(PROVIDERS).json()["providers"]}
    assert "openai" not in listed


def test_a_models_details_say_what_the_user_used_of_it(
    alice_api: APIClient, mallory_api: APIClient, staff_api: APIClient, alice: User
) -> None:
    model = make_model()
    old = datetime.now(UTC) - timedelta(days=31)
    with time_machine.travel(old, tick=False):
        usage.record(call(alice, model), work())
    for type_ in ("debug", "ask"):
        usage.record(call(alice, model), work(task_type=type_, charged_microcredits=250_000))
    path = f"/api/v1/models/{model.pk}"
    used = alice_api.get(path).json()["usage"]
    assert used == {
        "days": 30,
        "calls": 2,
        "failures": 0,
        "own_key_calls": 0,
        "input_tokens": 2_000,
        "cached_tokens": 800,
        "output_tokens": 200,
        "credits_used": 0.5,
        "average_duration_ms": 1_500,
    }
    for other in (mallory_api, staff_api):
        none = other.get(path).json()["usage"]
        assert (none["calls"], none["average_duration_ms"]) == (0, None)


@pytest.mark.parametrize("table", ["keyprovider", "keyusage", "modelusage"])
def test_staff_read_the_tables_in_the_admin(
    client: Client, staff: User, alice: User, table: str
) -> None:
    key = keys.add(user=alice, provider="anthropic", plain="sk-test-0123456789abcdefWXYZ")
    usage.record(call(alice, make_model(), key_id=key.pk), work(charged_microcredits=5))
    client.force_login(staff)
    page = client.get(f"/admin/aimodels/{table}/")
    assert page.status_code == 200
    assert ("alice" in page.content.decode()) == (table != "keyprovider")
    assert client.get(f"/admin/aimodels/{table}/add/").status_code == 403
