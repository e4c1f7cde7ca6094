"""Which model, which key, which address: and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.models import User
from aimodels import access, keys, selection
from aimodels.errors import ModelInactive, ModelNotOwn, ModelNotUsable, ModelUnable, NoModel
from aimodels.models import AIModel, ProviderConfig, ProviderKey, ProviderKind
from aimodels.tests.make import make_model
from asynccoder.lib import outbound

OWN = "sk-own-key-0123456789"
PLATFORM = "sk-platform-0123456789"


@pytest.fixture(autouse=True)
def _no_keys(settings: Any) -> None:
    settings.CLAUDE_API_KEY = settings.OPENAI_API_KEY = settings.GEMINI_API_KEY = ""


def reach(model: AIModel, user: User) -> tuple[str, str, bool]:
    found = access.provider_access(model, user)
    return found.base_url, found.api_key.reveal(), found.is_own_key


def test_a_users_own_key_comes_before_the_platforms(
    alice: User, mallory: User, settings: Any
) -> None:
    settings.CLAUDE_API_KEY = PLATFORM
    model = make_model()
    keys.add(user=alice, provider="anthropic", plain=OWN)
    assert reach(model, alice) == (settings.ANTHROPIC_BASE_URL, OWN, True)
    assert reach(model, mallory) == (settings.ANTHROPIC_BASE_URL, PLATFORM, False)


def test_the_newest_active_key_is_used(alice: User) -> None:
    model = make_model()
    keys.add(user=alice, provider="anthropic", plain=OWN)
    newer = keys.add(user=alice, provider="anthropic", plain="sk-newer-0123456789")
    assert reach(model, alice)[1] == "sk-newer-0123456789"
    ProviderKey.objects.filter(pk=newer.pk).update(is_active=False)
    assert reach(model, alice)[1] == OWN


def test_staffs_configuration_comes_before_the_environment(alice: User, settings: Any) -> None:
    settings.CLAUDE_API_KEY = PLATFORM
    keys.configure(
        ProviderConfig(provider="anthropic", base_url="https://proxy.example/"),
        plain="sk-staff-0123456789",
    )
    assert reach(make_model(), alice) == ("https://proxy.example/", "sk-staff-0123456789", False)


def test_no_key_names_the_setting(alice: User) -> None:
    with pytest.raises(ModelNotUsable, match="CLAUDE_API_KEY") as caught:
        access.provider_access(make_model(), alice)
    assert caught.value.details == {"setting": "CLAUDE_API_KEY"}
    assert caught.value.status == 503


def test_a_model_switched_off_is_not_reached(alice: User) -> None:
    keys.add(user=alice, provider="anthropic", plain=OWN)
    with pytest.raises(ModelInactive):
        access.provider_access(make_model(is_active=False), alice)


def own_model(user: User, **values: Any) -> AIModel:
    values.setdefault("base_url", "https://models.example/v1")
    return make_model("own", provider=ProviderKind.CUSTOM, owner=user, **values)


@pytest.fixture
def open_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let every address pass and record what was asked: names do not resolve in a test."""
    asked: list[str] = []

    def check(url: str) -> outbound.Destination:
        asked.append(url)
        return outbound.Destination("models.example.com", 443, "192.0.2.1")

    monkeypatch.setattr(outbound, "check", check)
    return asked


def test_a_custom_model_never_gets_a_platform_key(
    alice: User, settings: Any, open_network: list[str]
) -> None:
    settings.OPENAI_API_KEY = settings.CLAUDE_API_KEY = PLATFORM
    keys.configure(
        ProviderConfig(provider="custom", base_url="https://staff.example/v1"), plain=PLATFORM
    )
    model = own_model(alice)
    assert reach(model, alice) == ("https://models.example/v1", "", True)
    keys.add(user=alice, provider="custom", plain=OWN)
    assert reach(model, alice) == ("https://models.example/v1", OWN, True)
    assert open_network == ["https://models.example/v1"] * 2


def test_a_shared_custom_model_uses_staffs_key_only_at_staffs_address(alice: User) -> None:
    keys.add(user=alice, provider="custom", plain=OWN)
    elsewhere = make_model(
        "elsewhere", provider=ProviderKind.CUSTOM, base_url="https://other.example/v1"
    )
    configured = make_model("configured", provider=ProviderKind.CUSTOM)
    with pytest.raises(ModelNotUsable):
        access.provider_access(configured, alice)
    keys.configure(
        ProviderConfig(provider="custom", base_url="https://staff.example/v1"), plain=PLATFORM
    )
    assert reach(elsewhere, alice) == ("https://other.example/v1", "", False)
    assert reach(configured, alice) == ("https://staff.example/v1", PLATFORM, False)


def test_nobody_uses_anothers_model(alice: User, staff: User, open_network: list[str]) -> None:
    model = own_model(alice)
    with pytest.raises(ModelNotOwn):
        access.provider_access(model, staff)
    assert not access.is_usable(model, staff)
    assert access.is_usable(model, alice)


def test_with_no_key_at_all_the_built_in_engine_does_what_it_can(alice: User) -> None:
    make_model()
    assert selection.choose(alice, "analysis").provider == ProviderKind.BUILTIN
    with pytest.raises(NoModel, match="CLAUDE_API_KEY, OPENAI_API_KEY, GEMINI_API_KEY"):
        selection.choose(alice, "architect")


def test_a_usable_model_comes_before_the_built_in_engine(alice: User) -> None:
    model = make_model()
    keys.add(user=alice, provider="anthropic", plain=OWN)
    assert selection.choose(alice, "analysis") == model


def test_preference_then_price_decides(alice: User) -> None:
    keys.add(user=alice, provider="anthropic", plain=OWN)
    make_model("dear", output_price="0.001", preference=1)
    cheap = make_model("cheap", output_price="0.00001", preference=1)
    make_model("last", output_price="0.000001", preference=2)
    assert selection.choose(alice, "debug") == cheap


@pytest.mark.parametrize(
    "values", [{"is_active": False}, {"capabilities": ["ask"]}, {"output_price": None}]
)
def test_what_cannot_do_it_is_not_chosen(alice: User, values: dict[str, Any]) -> None:
    keys.add(user=alice, provider="anthropic", plain=OWN)
    make_model(**values)
    with pytest.raises(NoModel):
        selection.choose(alice, "build")
    fit = make_model("fit")
    assert selection.choose(alice, "build") == fit


def test_anothers_own_model_is_never_chosen_not_even_for_staff(
    alice: User, staff: User, open_network: list[str]
) -> None:
    own_model(alice)
    assert selection.choose(alice, "build").name == "own"
    with pytest.raises(NoModel):
        selection.choose(staff, "build")


def test_choosing_takes_three_queries_for_any_number_of_models(
    alice: User, django_assert_num_queries: Any
) -> None:
    for number in range(5):
        make_model(f"m{number}")
    with django_assert_num_queries(3):
        selection.choose(alice, "ask")


def test_a_named_model_must_be_able(alice: User) -> None:
    builtin = AIModel.objects.get(provider=ProviderKind.BUILTIN)
    assert selection.require(alice, builtin, "analysis") == builtin
    with pytest.raises(ModelUnable, match="cannot do build"):
        selection.require(alice, builtin, "build")
    with pytest.raises(ModelNotUsable):
        selection.require(alice, make_model(), "build")
    with pytest.raises(ModelInactive):
        selection.require(alice, make_model("off", is_active=False), "build")
