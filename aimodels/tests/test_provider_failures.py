"""Every way a provider fails becomes one of our errors; nobody else sees an SDK's."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import httpx2
import pytest

from aimodels.providers import check, connect
from aimodels.providers.base import (
    BadRequest,
    ContextOverflow,
    MalformedReply,
    Provider,
    ProviderBusy,
    ProviderError,
    ProviderRefused,
    Reply,
    Request,
)
from aimodels.providers.translation import retry_after
from aimodels.tests.model_server import ModelServer, serve
from asynccoder.tests.processes import free_port

WIRES = ["openai", "anthropic"]
LONG = "word " * 200


def ask(script: list[dict[str, Any]], kind: str, *, key: str = "", **values: Any) -> Reply:
    values = {"api_key": "sk-secret-1234", "model": "m", "timeout": 5.0, "max_retries": 0, **values}
    with serve(script, key=key) as server, closing(_connected(kind, server, values)) as provider:
        return provider.complete(Request(("s",), (provider.user_turn("hi"),), 100))


def _connected(kind: str, server: ModelServer, values: dict[str, Any]) -> Provider:
    return connect(kind, base_url=server.base_url(kind), **values)


def fault(**values: Any) -> list[dict[str, Any]]:
    return [{"text": LONG, "faults": [values] * 9}]


@pytest.mark.parametrize("kind", WIRES)
def test_without_a_fault_the_same_call_works(kind: str) -> None:
    assert ask([{"text": LONG}], kind).text == LONG


@pytest.mark.parametrize("kind", WIRES)
@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_a_busy_provider_is_tried_again(kind: str, status: int) -> None:
    script = [{"text": "ok", "faults": [{"status": status, "retry_after": 0.01}] * 2}]
    assert ask(script, kind, max_retries=2).text == "ok"
    with pytest.raises(ProviderBusy):
        ask(script, kind, max_retries=1)


@pytest.mark.parametrize("kind", WIRES)
def test_the_wait_that_the_provider_asks_for_is_handed_on(kind: str) -> None:
    with pytest.raises(ProviderBusy) as caught:
        ask(fault(status=429, retry_after=17), kind)
    assert caught.value.retry_after == 17
    assert caught.value.is_sent is False


@pytest.mark.parametrize("kind", WIRES)
def test_a_wrong_key_is_refused_and_never_shown(kind: str) -> None:
    with pytest.raises(ProviderRefused) as caught:
        ask([{"text": "x"}], kind, key="another-key")
    assert caught.value.reason == "key_refused"
    assert "sk-secret-1234" not in str(caught.value)
    assert "***" in str(caught.value)


@pytest.mark.parametrize("kind", WIRES)
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"status": 403}, "no_access"),
        ({"status": 404, "code": "model_not_found"}, "no_access"),
        ({"status": 402, "type": "billing_error"}, "out_of_quota"),
        (
            {"status": 429, "code": "insufficient_quota", "type": "insufficient_quota"},
            "out_of_quota",
        ),
        ({"status": 400, "message": "Your credit balance is too low."}, "out_of_quota"),
        ({"status": 400, "message": "API key not valid. Pass a valid key."}, "key_refused"),
    ],
)
def test_a_refusal_tells_its_reason(kind: str, values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ProviderRefused) as caught:
        ask(fault(**values), kind)
    assert caught.value.reason == reason


@pytest.mark.parametrize("kind", WIRES)
@pytest.mark.parametrize(
    "values",
    [
        {
            "status": 400,
            "code": "context_length_exceeded",
            "message": "above the maximum context length",
        },
        {"status": 400, "message": "prompt is too long: 210000 tokens > 200000 maximum"},
        {"status": 413, "message": "request too large"},
    ],
)
def test_a_conversation_that_is_too_long_is_told_apart(kind: str, values: dict[str, Any]) -> None:
    with pytest.raises(ContextOverflow):
        ask(fault(**values), kind)


@pytest.mark.parametrize("kind", WIRES)
def test_another_bad_request_is_one(kind: str) -> None:
    with pytest.raises(BadRequest, match="no such parameter"):
        ask(fault(status=400, message="no such parameter"), kind)


@pytest.mark.parametrize("kind", WIRES)
@pytest.mark.parametrize(
    "values",
    [{"reset_after": 600}, {"truncate_after": 600}, {"corrupt": True}, {"no_finish": True}],
    ids=str,
)
def test_a_broken_answer_is_malformed_and_says_what_it_cost(
    kind: str, values: dict[str, Any]
) -> None:
    with pytest.raises(MalformedReply) as caught:
        ask(fault(**values), kind)
    assert caught.value.is_sent
    assert caught.value.usage is not None
    assert caught.value.usage.input > 0


@pytest.mark.parametrize("kind", WIRES)
def test_an_overload_that_is_reported_half_way_may_have_been_billed(kind: str) -> None:
    with pytest.raises(ProviderBusy, match="half-way") as caught:
        ask(fault(error_event="overloaded half-way"), kind)
    assert caught.value.is_sent


@pytest.mark.parametrize("kind", WIRES)
def test_a_window_that_is_reported_too_small_half_way_is_told_apart(kind: str) -> None:
    with pytest.raises(ContextOverflow):
        ask(fault(error_event="prompt is too long: 9 tokens > 8 maximum"), kind)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "999999"}, 3600.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_read_with_care(headers: dict[str, str], seconds: float | None) -> None:
    response = httpx2.Response(429, headers=headers)
    assert retry_after(response) == seconds


@pytest.mark.parametrize("kind", WIRES)
def test_silence_ends_in_time_and_may_have_been_billed(kind: str) -> None:
    with pytest.raises(ProviderBusy) as caught:
        ask(fault(hang=30), kind, timeout=0.3)
    assert caught.value.is_sent


@pytest.mark.parametrize("kind", WIRES)
def test_a_slow_answer_is_no_failure(kind: str) -> None:
    assert ask([{"text": "slow but fine", "faults": [{"slow": 0.02}]}], kind, timeout=1.0).text


@pytest.mark.parametrize("kind", WIRES)
def test_nobody_at_the_address_was_never_sent(kind: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    provider = connect(kind, base_url=url, api_key="k", model="m", timeout=1, max_retries=0)
    with pytest.raises(ProviderBusy) as caught:
        provider.complete(Request(("s",), (provider.user_turn("hi"),), 100))
    assert caught.value.is_sent is False


@pytest.mark.parametrize("kind", WIRES)
def test_a_redirect_is_not_followed(kind: str) -> None:
    with serve([{"text": "reached"}]) as inner:
        target = inner.base_url(kind)
        with pytest.raises(ProviderError):
            ask(fault(status=307, location=f"{target}/elsewhere"), kind)
        assert inner.requests == []


@pytest.mark.parametrize("kind", WIRES)
def test_a_pinned_address_is_connected_to_whatever_the_name_says(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name below does not exist; a proxy of the environment must not be asked either."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with serve([{"text": "reached"}]) as server:
        url = server.base_url(kind).replace("127.0.0.1", "models.invalid")
        values: dict[str, Any] = {"base_url": url, "api_key": "k", "model": "m", "timeout": 5}
        for address in ("127.0.0.1", ""):
            provider = connect(kind, **values, max_retries=0, address=address)
            with closing(provider):
                request = Request(("s",), (provider.user_turn("hi"),), 100)
                if address:
                    assert provider.complete(request).text == "reached"
                else:
                    with pytest.raises(ProviderBusy):
                        provider.complete(request)
        hosts = [logged["headers"]["Host"] for logged in server.requests]
    assert hosts == [f"models.invalid:{server.server_port}"]


@pytest.mark.parametrize("kind", WIRES)
def test_a_refusal_and_a_cut_by_length_are_stop_reasons(kind: str) -> None:
    stop = "refusal"
    assert ask([{"text": "I will not.", "stop": stop}], kind).stop_reason == "refusal"
    assert ask([{"text": "too lo", "stop": "max_tokens"}], kind).stop_reason == "length"


@pytest.mark.parametrize("kind", WIRES)
def test_an_endless_answer_is_cut(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aimodels.providers.wire.REPLY_CHARACTERS", 500)
    with pytest.raises(MalformedReply):
        ask([{"text": LONG}], kind)


@pytest.mark.parametrize("kind", WIRES)
@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ([{"text": "OK"}], "works"),
        (fault(status=401), "key_refused"),
        (fault(status=404), "no_access"),
        (fault(status=402), "out_of_quota"),
        (fault(status=500), "unreachable"),
        (fault(status=400), "bad_request"),
        (fault(no_finish=True), "unreachable"),
    ],
)
def test_trying_a_model_gives_a_verdict(
    kind: str, script: list[dict[str, Any]], outcome: str
) -> None:
    values = {"api_key": "k", "model": "m", "timeout": 5, "max_retries": 0}
    with serve(script) as server, closing(_connected(kind, server, values)) as provider:
        verdict = check(provider)
    assert verdict.outcome == outcome
    assert verdict.works == (outcome == "works")
    assert verdict.seconds > 0
    assert verdict.message
