"""The limits against many at once, forged addresses, bad credentials, and in each dialect."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from accounts import keys, tokens
from accounts.models import User
from asynccoder.api import limits
from asynccoder.api.limits import LocalCounters
from asynccoder.tests.test_every_route_asks_for_its_credential import API
from asynccoder.tests.test_every_url_speaks_its_dialect import PLAIN
from conftest import make_user, signed_in

LOGIN = "/api/v1/auth/login"
ME = "/api/users/me"
THREADS = 50
STARTED = time.time()
HEADERS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


@pytest.fixture(autouse=True)
def _counting(settings: Any) -> None:
    settings.RATELIMIT_ENABLE = True
    # Not cleared: that would flush a Redis which may be somebody's.
    own = {**settings.CACHES["default"], "KEY_PREFIX": f"{settings.REDIS_PREFIX}:{uuid.uuid4()}"}
    settings.CACHES = {"default": own}


def at_once(ask: Callable[[int], int]) -> list[int]:
    """Return the status codes of fifty requests that begin together."""
    barrier = Barrier(THREADS)

    def attempt(number: int) -> int:
        try:
            barrier.wait()
            return ask(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(attempt, range(THREADS)))


def sign_in(**headers: Any) -> int:
    body = {"username": "nobody", "password": "wrong"}
    return int(APIClient().post(LOGIN, body, **headers).status_code)


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_of_fifty_requests_with_one_key_exactly_the_limit_passes(settings: Any) -> None:
    settings.RATE_LIMITS = settings.RATE_LIMITS | {"general": "20/15m"}
    text = keys.create(user=make_user("ann"), name="ci")[1]
    codes = at_once(lambda _: int(APIClient().get(ME, HTTP_X_API_KEY=text).status_code))
    assert (codes.count(200), codes.count(429)) == (20, 30)


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_of_fifty_tries_with_forged_addresses_exactly_five_are_heard() -> None:
    codes = at_once(lambda number: sign_in(HTTP_X_FORWARDED_FOR=f"10.0.0.{number}"))
    assert (codes.count(401), codes.count(429)) == (5, 45)


@pytest.mark.django_db(transaction=True)
def test_without_the_cache_the_process_lets_exactly_five_through(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_local", LocalCounters())
    nowhere = f"unix://{tmp_path}/none.sock"
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": nowhere}}
    codes = at_once(lambda _: sign_in())
    assert (codes.count(401), codes.count(429)) == (5, 45)


FORGED = {
    "HTTP_X_REAL_IP": "10.1.0.{n}",
    "HTTP_FORWARDED": "for=10.2.0.{n}",
    "HTTP_CLIENT_IP": "10.3.0.{n}",
    "HTTP_X_CLIENT_IP": "10.3.1.{n}",
    "HTTP_TRUE_CLIENT_IP": "10.4.0.{n}",
    "HTTP_CF_CONNECTING_IP": "10.5.0.{n}",
    "HTTP_X_FORWARDED_HOST": "host{n}.example",
    "HTTP_VIA": "1.1 proxy{n}",
}
# What the client wrote, then what each of our proxies added; {c} is the client's real address.
BEHIND = {0: "10.0.0.{n}", 1: "10.0.0.{n}, 10.9.{n}.1, {c}", 2: "10.0.0.{n}, {c}, 192.0.2.1"}


@pytest.mark.django_db
@pytest.mark.parametrize("proxies", BEHIND)
def test_a_forged_address_changes_nothing(settings: Any, proxies: int) -> None:
    settings.NUM_PROXIES = proxies

    def ask(n: int, client: str) -> int:
        forged = {name: text.format(n=n) for name, text in FORGED.items()}
        forwarded = BEHIND[proxies].format(n=n, c=client)
        address = "192.0.2.2" if proxies else client
        return sign_in(HTTP_X_FORWARDED_FOR=forwarded, REMOTE_ADDR=address, **forged)

    assert [ask(n, "198.51.100.7") for n in range(8)] == [401] * 5 + [429] * 3
    # The control: another client behind the same proxies has room of its own.
    assert ask(9, "198.51.100.8") == 401


@pytest.mark.django_db
@pytest.mark.parametrize("forwarded", ["", ",", "unknown", "10.0.0.{n}", "[::{n}]:80", "x{n}"])
def test_fewer_addresses_than_proxies_or_odd_ones_give_no_new_room(
    settings: Any, forwarded: str
) -> None:
    settings.NUM_PROXIES = 2
    codes = [sign_in(HTTP_X_FORWARDED_FOR=forwarded.format(n=n)) for n in range(7)]
    assert codes == [401] * 5 + [429] * 2


# --- what is counted, and what the headers say ----------------------------------------------


def assert_headers(path: str, answer: Any) -> None:
    assert all(name in answer.headers for name in HEADERS), (path, answer.status_code)
    reset = answer["X-RateLimit-Reset"]
    if PLAIN.match(path):
        moment = float(reset)
    else:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", reset), path
        moment = datetime.fromisoformat(reset).timestamp()
    # A moment in seconds, not in milliseconds and not a number of seconds from now.
    assert moment // 1e9 == STARTED // 1e9
    assert moment > STARTED - 1


COUNTED = [path for path in API if not re.match(r"/api(/v1)?/health", path)]


@pytest.mark.parametrize("path", COUNTED)
def test_every_answer_of_a_limited_route_says_what_is_left(
    path: str, alice: User, victor: User, settings: Any
) -> None:
    plans = {"free": "1000/1h"}
    wide = {"general": "1000/15m", "anonymous": "1000/15m", "work": "1000/1m", "plans": plans}
    settings.RATE_LIMITS = settings.RATE_LIMITS | wide
    for api in (
        APIClient(),
        APIClient(headers={"x-api-key": "x"}),
        signed_in(victor),
        signed_in(alice),
    ):
        assert_headers(path, api.get(path))
        assert_headers(path, api.post(path, "{", content_type="application/json"))
        assert_headers(path, api.patch(path, {}))


@pytest.mark.django_db
@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer x"}, {"x-api-key": "x"}, {"authorization": "Basic x"}]
)
def test_bad_credentials_are_not_free(headers: dict[str, str]) -> None:
    api = APIClient(headers=headers)
    answers = [api.get(ME) for _ in range(12)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert answers[0]["X-RateLimit-Remaining"] == "9"
    assert answers[-1].json()["error"]["code"] == "RATE_LIMIT_EXCEEDED"
    assert int(answers[-1]["Retry-After"]) > 0


def test_expired_tokens_leave_the_room_to_refresh_them(api: APIClient, alice: User) -> None:
    expired = APIClient(headers={"authorization": "Bearer x"})
    assert [expired.get(ME).status_code for _ in range(11)][-1] == 429
    pair = tokens.begin(alice)
    answer = api.post("/api/auth/refresh", {"refreshToken": pair.refresh})
    assert (answer.status_code, answer["X-RateLimit-Remaining"]) == (200, "9")


def test_whoever_is_signed_in_is_not_held_back_by_strangers_at_the_same_address(
    alice: User, api: APIClient
) -> None:
    assert [api.get(ME).status_code for _ in range(11)][-1] == 429
    assert signed_in(alice).get(ME).status_code == 200


def test_a_refused_role_is_counted_once(victor: User) -> None:
    api = signed_in(victor)
    left = [
        int(api.put(f"/api/tasks/{uuid.uuid4()}/cancel")["X-RateLimit-Remaining"]) for _ in range(3)
    ]
    assert left == [99, 98, 97]
    assert int(api.get(ME)["X-RateLimit-Remaining"]) == 96


@pytest.mark.django_db
def test_a_sign_in_that_cannot_be_read_is_counted_too(api: APIClient) -> None:
    codes = [api.post(LOGIN, "{", content_type="application/json").status_code for _ in range(7)]
    assert codes == [400] * 5 + [429] * 2
