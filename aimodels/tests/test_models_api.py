"""The models over REST: lists in both dialects, own models, trials."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from rest_framework.test import APIClient

from accounts.models import User
from aimodels import keys
from aimodels.models import AIModel, KeyUsage, ProviderConfig, ProviderKind
from aimodels.tests.make import make_model
from aimodels.tests.model_server import serve
from asynccoder.lib import outbound

NOBODYS = str(uuid.UUID(int=1))
MODELS = "/api/v1/models"
OWN = {"name": "llama", "base_url": "https://models.example/v1"}


@pytest.fixture(autouse=True)
def _no_keys(settings: Any) -> None:
    settings.CLAUDE_API_KEY = settings.OPENAI_API_KEY = settings.GEMINI_API_KEY = ""


@pytest.fixture
def public_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every name lead to a public address: a test has no name server."""
    monkeypatch.setattr(outbound, "resolved", lambda host, port: ["93.184.216.34"])


@pytest.fixture
def as_alice(api: APIClient, alice: User) -> APIClient:
    api.force_authenticate(alice)
    return api


def own_model(user: User, **values: Any) -> AIModel:
    values = {"provider": ProviderKind.CUSTOM, "base_url": OWN["base_url"]} | values
    return make_model("own", owner=user, **values)


ROUTES = [
    ("get", MODELS),
    ("post", MODELS),
    ("get", f"{MODELS}/{NOBODYS}"),
    ("put", f"{MODELS}/{NOBODYS}"),
    ("delete", f"{MODELS}/{NOBODYS}"),
    ("post", f"{MODELS}/test"),
    ("get", "/api/ai-models"),
]


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_anonymous_gets_401(api: APIClient, db: None, method: str, route: str) -> None:
    assert getattr(api, method)(route).status_code == 401


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_a_viewer_may_only_look(api: APIClient, victor: User, method: str, route: str) -> None:
    api.force_authenticate(victor)
    expected = {"get": (200, 404)}.get(method, (403,))
    assert getattr(api, method)(route).status_code in expected


def test_a_fresh_platform_lists_the_built_in_engine(as_alice: APIClient) -> None:
    body = as_alice.get(MODELS).json()
    assert (body["total"], body["models"][0]["name"]) == (1, "builtin")
    assert body["models"][0]["is_usable"] is True


def test_the_envelope_has_the_published_shape(as_alice: APIClient, settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-platform-0123456789"
    make_model("gpt-x", provider=ProviderKind.OPENAI, description="Capable", context_window=8192)
    body = as_alice.get("/api/ai-models").json()
    assert body["success"] is True
    (model,) = [m for m in body["data"]["models"] if m["provider"] == "openai"]
    published = {
        "name": "gpt-x",
        "displayName": "gpt-x",
        "provider": "openai",
        "description": "Capable",
        "costPerToken": 0.000002,
        "maxTokens": 8192,
        "isActive": True,
    }
    assert published.items() <= model.items()
    assert {"debug", "ask", "documentation"} <= set(model["capabilities"])
    assert {"inputPrice", "cachedInputPrice", "outputPrice", "maxOutputTokens"} <= model.keys()


def test_an_unknown_price_is_null_not_zero(as_alice: APIClient) -> None:
    model = make_model(input_price=None, output_price=None)
    body = as_alice.get(f"{MODELS}/{model.pk}").json()
    assert (body["cost_per_token"], body["output_price"]) == (None, None)


def test_a_model_without_a_key_is_shown_as_not_usable(as_alice: APIClient, alice: User) -> None:
    model = make_model()
    assert as_alice.get(f"{MODELS}/{model.pk}").json()["is_usable"] is False
    keys.add(user=alice, provider="anthropic", plain="sk-own-0123456789")
    assert as_alice.get(f"{MODELS}/{model.pk}").json()["is_usable"] is True


def test_models_switched_off_are_listed_only_to_their_owner(
    as_alice: APIClient, alice: User
) -> None:
    make_model("off", is_active=False)
    own_model(alice, is_active=False)
    names = [model["name"] for model in as_alice.get(MODELS).json()["models"]]
    assert sorted(names) == ["builtin", "own"]


def test_a_list_of_models_takes_four_queries(
    as_alice: APIClient, django_assert_num_queries: Any
) -> None:
    for number in range(5):
        make_model(f"m{number}")
    with django_assert_num_queries(4):
        as_alice.get(MODELS)


@pytest.mark.usefixtures("public_names")
def test_a_user_adds_an_own_model(as_alice: APIClient, alice: User) -> None:
    answer = as_alice.post(MODELS, OWN | {"input_price": "0.0000001", "context_window": 32000})
    assert answer.status_code == 201, answer.json()
    body = answer.json()
    assert (body["name"], body["provider"], body["is_own"]) == ("llama", "custom", True)
    assert (body["base_url"], body["max_tokens"]) == (OWN["base_url"], 32000)
    model = AIModel.objects.get(pk=body["id"])
    assert model.owner == alice
    assert model.output_price == 0
    assert model.input_price == Decimal("0.0000001")


@pytest.mark.usefixtures("public_names")
def test_nobody_makes_a_model_of_the_platform(
    as_alice: APIClient, alice: User, mallory: User
) -> None:
    forged = {"owner": None, "owner_id": str(mallory.pk), "provider": "openai", "preference": 0}
    body = as_alice.post(MODELS, OWN | forged).json()
    model = AIModel.objects.get(pk=body["id"])
    assert (model.owner, model.provider, model.preference) == (alice, "custom", 100)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": ""}, "name"),
        ({"base_url": "ftp://models.example"}, None),
        ({"base_url": "nonsense"}, "base_url"),
        ({"input_price": -1}, "input_price"),
        ({"input_price": "NaN"}, "input_price"),
        ({"output_price": 2}, "output_price"),
        ({"capabilities": ["steal"]}, "capabilities"),
        ({"context_window": 1}, "context_window"),
        ({"max_output_tokens": 10**9}, "max_output_tokens"),
    ],
)
@pytest.mark.usefixtures("public_names")
def test_wrong_values_are_refused(
    as_alice: APIClient, values: dict[str, Any], field: str | None
) -> None:
    answer = as_alice.post(MODELS, OWN | values)
    assert answer.status_code == 400
    assert answer.json()["code"] == "VALIDATION_ERROR"
    assert field is None or field in answer.json()["details"]
    assert AIModel.objects.count() == 1


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/v1", "https://10.0.0.7/v1", "http://models.example/v1"]
)
def test_an_address_inside_is_refused(as_alice: APIClient, url: str) -> None:
    answer = as_alice.post(MODELS, OWN | {"base_url": url})
    assert answer.status_code == 400
    assert AIModel.objects.count() == 1


def test_an_address_inside_that_staff_allow_is_taken(as_alice: APIClient, settings: Any) -> None:
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:11434"]
    assert as_alice.post(MODELS, OWN | {"base_url": "http://127.0.0.1:11434/v1"}).status_code == 201


@pytest.mark.usefixtures("public_names")
def test_a_name_is_used_once_by_one_user(
    api: APIClient, as_alice: APIClient, mallory: User
) -> None:
    assert as_alice.post(MODELS, OWN).status_code == 201
    assert as_alice.post(MODELS, OWN).status_code == 409
    api.force_authenticate(mallory)
    assert api.post(MODELS, OWN).status_code == 201


def test_an_owner_edits_and_removes_an_own_model(as_alice: APIClient, alice: User) -> None:
    model = own_model(alice)
    body = as_alice.put(f"{MODELS}/{model.pk}", {"display_name": "Mine", "is_active": False}).json()
    assert (body["display_name"], body["is_active"], body["name"]) == ("Mine", False, "own")
    assert as_alice.put(f"{MODELS}/{model.pk}", {"base_url": "https://[::1]/"}).status_code == 400
    assert as_alice.delete(f"{MODELS}/{model.pk}").status_code == 204
    assert not AIModel.objects.filter(pk=model.pk).exists()


def test_a_stranger_finds_no_model_of_alice(api: APIClient, alice: User, mallory: User) -> None:
    model = own_model(alice)
    api.force_authenticate(mallory)
    route = f"{MODELS}/{model.pk}"
    assert [
        api.get(route).status_code,
        api.put(route, {"display_name": "x"}).status_code,
        api.delete(route).status_code,
        api.post(f"{MODELS}/test", {"model_id": str(model.pk)}).status_code,
    ] == [404, 404, 404, 404]
    assert [found["name"] for found in api.get(MODELS).json()["models"]] == ["builtin"]
    model.refresh_from_db()
    assert model.display_name == "own"


def test_models_of_the_platform_are_not_the_users_to_change(as_alice: APIClient) -> None:
    model = make_model()
    assert as_alice.put(f"{MODELS}/{model.pk}", {"is_active": False}).status_code == 403
    assert as_alice.delete(f"{MODELS}/{model.pk}").status_code == 403


def test_trying_the_built_in_engine_works_at_once(as_alice: APIClient) -> None:
    body = as_alice.post(f"{MODELS}/test", {"name": "builtin"}).json()
    assert (body["works"], body["outcome"], body["latency_ms"]) == (True, "works", 0)


def test_trying_a_model_without_a_key_names_the_setting(as_alice: APIClient) -> None:
    make_model("claude")
    answer = as_alice.post(f"{MODELS}/test", {"name": "claude"})
    assert (answer.status_code, answer.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert "CLAUDE_API_KEY" in answer.json()["message"]


@pytest.mark.parametrize("body", [{}, {"name": "a", "model_id": NOBODYS}])
def test_a_trial_names_one_model(as_alice: APIClient, body: dict[str, str]) -> None:
    assert as_alice.post(f"{MODELS}/test", body).status_code == 400


def test_a_trial_of_no_model_is_404(as_alice: APIClient) -> None:
    assert as_alice.post(f"{MODELS}/test", {"name": "nothing"}).status_code == 404


def test_a_trial_that_fails_is_a_verdict(as_alice: APIClient, settings: Any) -> None:
    """Nobody listens on the port: the answer says so, with the time it took."""
    settings.OPENAI_API_KEY = "sk-platform-0123456789"
    settings.OPENAI_BASE_URL = "http://127.0.0.1:9/v1"
    make_model("gpt-x", provider=ProviderKind.OPENAI)
    answer = as_alice.post(f"{MODELS}/test", {"name": "gpt-x"})
    assert answer.status_code == 200, answer.json()
    assert (answer.json()["works"], answer.json()["outcome"]) == (False, "unreachable")
    assert "sk-platform" not in str(answer.json())


PROVIDERS = [
    ("anthropic", "CLAUDE_API_KEY", "ANTHROPIC_BASE_URL"),
    ("openai", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
    ("gemini", "GEMINI_API_KEY", "GEMINI_BASE_URL"),
]


@pytest.mark.parametrize(("kind", "key", "url"), PROVIDERS)
def test_a_trial_uses_the_key_and_address_of_a_task(
    as_alice: APIClient, settings: Any, kind: str, key: str, url: str
) -> None:
    """The server takes one key only; the wrong one is the control."""
    make_model("any", provider=kind)
    with serve([{"text": "OK"}], key="sk-right-0123456789") as server:
        setattr(settings, url, server.base_url(kind))
        outcomes = []
        for given in ("sk-right-0123456789", "sk-wrong-0123456789"):
            setattr(settings, key, given)
            outcomes.append(as_alice.post(f"{MODELS}/test", {"name": "any"}).json()["outcome"])
    assert outcomes == ["works", "key_refused"]


def test_a_trial_of_an_own_model_reaches_only_what_is_allowed(
    as_alice: APIClient, alice: User, settings: Any
) -> None:
    keys.add(user=alice, provider="custom", plain="sk-right-0123456789")
    with serve([{"text": "OK"}], key="sk-right-0123456789") as server:
        model = own_model(alice, base_url=server.openai_url)
        refused = as_alice.post(f"{MODELS}/test", {"model_id": str(model.pk)})
        assert (refused.status_code, server.requests) == (400, [])
        settings.OUTBOUND_ALLOWED = [f"127.0.0.1:{server.server_port}"]
        body = as_alice.post(f"{MODELS}/test", {"model_id": str(model.pk)}).json()
        assert (body["works"], body["outcome"]) == (True, "works"), body
    entry = KeyUsage.objects.get()
    assert (entry.user, entry.reference, entry.failure) == (alice, "trial", "")
    assert entry.output_tokens > 0


def test_the_admin_lists_models_and_never_shows_a_key(page: Any, staff: User, alice: User) -> None:
    call_command("loadmodels", verbosity=0)
    page.force_login(staff)
    plain = "sk-secret-0123456789-abcd"
    key = keys.add(user=alice, provider="openai", plain=plain)
    page.post(
        "/admin/aimodels/providerconfig/add/",
        {"provider": "openai", "base_url": "", "is_active": "on", "key": plain},
    )
    config = ProviderConfig.objects.get()
    assert keys.reveal_config(config).reveal() == plain
    for path in (
        "aimodel/",
        f"aimodel/{AIModel.objects.all()[0].pk}/change/",
        "providerconfig/",
        f"providerconfig/{config.pk}/change/",
        "providerkey/",
        f"providerkey/{key.pk}/change/",
    ):
        answer = page.get(f"/admin/aimodels/{path}")
        assert answer.status_code == 200, path
        html = answer.content.decode()
        assert plain not in html
        assert config.sealed_key not in html
    page.post(
        f"/admin/aimodels/providerconfig/{config.pk}/change/",
        {"base_url": "https://proxy.example/", "is_active": "on"},
    )
    config.refresh_from_db()
    assert config.base_url == "https://proxy.example/"
    assert keys.reveal_config(config).reveal() == plain
    page.post(f"/admin/aimodels/providerconfig/{config.pk}/change/", {"clear_key": "on"})
    config.refresh_from_db()
    assert not config.sealed_key
