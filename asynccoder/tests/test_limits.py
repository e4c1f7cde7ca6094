from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client, RequestFactory
from rest_framework.test import APIClient

from accounts.models import User
from asynccoder.api import limits
from asynccoder.api.limits import Limit, LocalCounters, client_address, count
from billing import limits as plan_limits
from billing.models import SubscriptionPlan

LOGIN = "/api/v1/auth/login"


@pytest.fixture(autouse=True)
def _counting(settings: Any) -> None:
    settings.RATELIMIT_ENABLE = True
    # Not cleared: that would flush a Redis which may be somebody's.
    own = {**settings.CACHES["default"], "KEY_PREFIX": f"{settings.REDIS_PREFIX}:{uuid.uuid4()}"}
    settings.CACHES = {"default": own}


@pytest.fixture
def no_cache(settings: Any, tmp_path: Path) -> None:
    """Point the cache at a Redis that is not there."""
    nowhere = f"unix://{tmp_path}/none.sock"
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": nowhere}}


def sign_in(api: APIClient, name: str = "alice", **headers: Any) -> Any:
    return api.post(LOGIN, {"username": name, "password": "wrong"}, **headers)


def test_the_sixth_try_to_sign_in_is_refused_with_the_right_password_too(
    api: APIClient, alice: User
) -> None:
    seen = [sign_in(api) for _ in range(5)]
    assert [response.status_code for response in seen] == [401] * 5
    assert [response["X-RateLimit-Remaining"] for response in seen] == ["4", "3", "2", "1", "0"]
    right = {"email": "alice", "password": "correct horse battery"}
    before = time.time()
    refused = api.post(LOGIN, right)
    after = time.time()
    assert (refused.status_code, refused.json()["code"]) == (429, "RATE_LIMIT_EXCEEDED")
    assert 0 < int(refused["Retry-After"]) == refused.json()["retry_after"] <= 900
    assert (refused["X-RateLimit-Limit"], refused["X-RateLimit-Remaining"]) == ("5", "0")
    told_at = int(refused["X-RateLimit-Reset"]) - int(refused["Retry-After"])
    assert before - 1 <= told_at <= after + 1
    assert sign_in(api, "mallory").status_code == 401


def test_the_three_addresses_of_signing_in_and_the_page_share_a_counter(
    api: APIClient, alice: User, client: Client
) -> None:
    body = {"email": "alice", "password": "wrong"}
    for path in ("/auth/login", "/api/auth/login", LOGIN, "/api/auth/login/"):
        assert api.post(path, body).status_code == 401
    page = {"identity": "alice", "password": "wrong"}
    assert client.post("/sign-in/", page).status_code == 401
    assert client.post("/sign-in/", page).status_code == 429
    assert api.post(LOGIN, body).status_code == 429


def test_a_client_does_not_choose_its_address(api: APIClient, alice: User) -> None:
    codes = [
        sign_in(api, HTTP_X_FORWARDED_FOR=f"10.0.0.{n}", HTTP_X_REAL_IP=f"10.0.0.{n}").status_code
        for n in range(8)
    ]
    assert codes == [401] * 5 + [429] * 3


def test_behind_proxies_the_address_is_the_one_that_the_outermost_wrote(settings: Any) -> None:
    def address(forwarded: str, proxies: int) -> str:
        settings.NUM_PROXIES = proxies
        request = RequestFactory().get("/", headers={"x-forwarded-for": forwarded})
        return client_address(request)

    assert address("6.6.6.6, 7.7.7.7, 8.8.8.8", 0) == "127.0.0.1"
    assert address("6.6.6.6, 7.7.7.7, 8.8.8.8", 1) == "8.8.8.8"
    assert address("6.6.6.6, 7.7.7.7, 8.8.8.8", 2) == "7.7.7.7"
    assert address("8.8.8.8", 2) == "127.0.0.1"
    assert address("rubbish", 1) == "unknown"


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:9.9.9.9", "9.9.9.9"),
        ("9.9.9.9", "9.9.9.9"),
        ("", "unknown"),
    ],
)
def test_an_ipv6_network_counts_as_one_client(given: str, key: str) -> None:
    assert client_address(RequestFactory().get("/", REMOTE_ADDR=given)) == key


def test_many_accounts_from_one_address_are_limited_too(
    api: APIClient, db: None, settings: Any
) -> None:
    settings.RATE_LIMITS = settings.RATE_LIMITS | {"authentication_address": "7/15m"}
    codes = [sign_in(api, f"user{n}").status_code for n in range(9)]
    assert codes == [401] * 7 + [429] * 2


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_of_fifty_tries_at_once_exactly_five_are_heard() -> None:
    def attempt(_: int) -> int:
        try:
            return int(sign_in(APIClient()).status_code)
        finally:
            connection.close()

    with ThreadPoolExecutor(25) as pool:
        codes = list(pool.map(attempt, range(50)))
    assert (codes.count(401), codes.count(429)) == (5, 45)


def test_general_limits_count_a_user_and_speak_the_dialect(
    alice_api: APIClient, settings: Any
) -> None:
    settings.RATE_LIMITS = settings.RATE_LIMITS | {"general": "2/15m", "plans": {"free": "3/1h"}}
    before = time.time()
    envelope = [alice_api.get("/api/users/me") for _ in range(3)]
    assert [response.status_code for response in envelope] == [200, 200, 429]
    assert datetime.fromisoformat(envelope[0]["X-RateLimit-Reset"]).timestamp() > before - 1
    plain = [alice_api.get("/api/v1/users/me") for _ in range(4)]
    assert [response.status_code for response in plain] == [200, 200, 200, 429]
    assert plain[0]["X-RateLimit-Limit"] == "3"
    assert plain[0]["X-RateLimit-Reset"].isdigit()


def test_another_user_and_a_better_plan_have_their_own_room(
    alice_api: APIClient, mallory_api: APIClient, mallory: User, settings: Any
) -> None:
    plans = {"free": "1/1h", "pro": "2/1h"}
    settings.RATE_LIMITS = settings.RATE_LIMITS | {"plans": plans}
    User.objects.filter(pk=mallory.pk).update(plan="pro")
    path = "/api/v1/users/me"
    assert [alice_api.get(path).status_code for _ in range(2)] == [200, 429]
    assert [mallory_api.get(path).status_code for _ in range(3)] == [200, 200, 429]


def per_hour(slug: str, **values: int) -> None:
    SubscriptionPlan.objects.filter(slug=slug).update(**values)
    plan_limits.forget()


def test_the_row_of_the_plan_decides_and_the_operator_before_it(
    alice_api: APIClient, alice: User, settings: Any
) -> None:
    path = "/api/v1/users/me"
    seen = []
    for plan in ("free", "pro", "enterprise", "unheard-of"):
        User.objects.filter(pk=alice.pk).update(plan=plan)
        seen.append(alice_api.get(path)["X-RateLimit-Limit"])
    assert seen == ["100", "1000", "10000", "100"]
    User.objects.filter(pk=alice.pk).update(plan="free")
    per_hour("free", requests_per_hour=2)
    assert [alice_api.get(path).status_code for _ in range(3)] == [200, 200, 429]
    settings.RATE_LIMITS = settings.RATE_LIMITS | {"plans": {"free": "7/1h"}}
    assert alice_api.get(path)["X-RateLimit-Limit"] == "7"


def test_a_plan_that_staff_edit_holds_within_the_half_minute(
    alice_api: APIClient,
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
    django_assert_num_queries: Any,
) -> None:
    path, now = "/api/v1/users/me", [1000.0]
    monkeypatch.setattr("billing.limits.time.monotonic", lambda: now[0])
    assert alice_api.get(path)["X-RateLimit-Limit"] == "100"
    SubscriptionPlan.objects.filter(slug="free").update(requests_per_hour=50)
    with django_assert_num_queries(0):
        assert plan_limits.of_plan("free").requests_per_hour == 100  # type: ignore[union-attr] # there is one
    now[0] += plan_limits.SECONDS
    assert alice_api.get(path)["X-RateLimit-Limit"] == "50"


@pytest.mark.parametrize(("tasks", "rate"), [(5, "10/1h"), (50, "50/1h")])
def test_a_plan_may_raise_the_rate_of_new_tasks_never_lower_it(
    db: None, tasks: int, rate: str
) -> None:
    from rest_framework.request import Request

    per_hour("free", tasks_per_hour=tasks)
    request = Request(RequestFactory().post("/api/v1/tasks"))
    assert limits._limits_of(request)[1].rate == rate


def test_refresh_counts_as_a_general_request(api: APIClient, db: None) -> None:
    codes = [api.post("/api/auth/refresh", {"refreshToken": "x"}).status_code for _ in range(11)]
    assert codes == [401] * 10 + [429]


def test_creating_tasks_has_a_limit_of_its_own_that_reading_does_not_use(db: None) -> None:
    from rest_framework.request import Request

    request = Request(RequestFactory().post("/api/v1/tasks"))
    assert [limit.scope for limit in limits._limits_of(request)] == ["plan", "task_create"]
    request = Request(RequestFactory().get("/api/v1/tasks"))
    assert [limit.scope for limit in limits._limits_of(request)] == ["plan"]
    request = Request(RequestFactory().post("/api/build"))
    assert [limit.scope for limit in limits._limits_of(request)] == ["work", "build_create"]


def test_probes_are_not_limited(api: APIClient, db: None) -> None:
    assert "X-RateLimit-Limit" not in api.get("/api/health/live")


def test_without_the_cache_signing_in_is_limited_by_the_process_and_the_rest_let_through(
    alice_api: APIClient, api: APIClient, no_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_local", LocalCounters())
    codes = [sign_in(api, "carol").status_code for _ in range(7)]
    assert codes == [401] * 5 + [429] * 2
    assert alice_api.get("/api/users/me").status_code == 200


def test_local_counters_do_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalCounters, "MOST", 10)
    counters = LocalCounters()
    for n in range(100):
        counters.count(Limit("authentication", "5/15m", str(n)))
    assert len(counters._counts) <= 10


def test_limits_that_are_off_count_nothing(settings: Any) -> None:
    limit = Limit("authentication", "1/15m", "x")
    request = RequestFactory().get("/")
    assert [count(request, limit).is_refused for _ in range(2)] == [False, True]  # type: ignore[union-attr] # they are on
    settings.RATELIMIT_ENABLE = False
    assert count(request, limit) is None


@pytest.mark.parametrize("rate", ["5/15m", "100/h", "1/s", "3/2d"])
def test_a_rate_is_a_count_and_a_time(rate: str) -> None:
    assert limits.is_rate(rate)


@pytest.mark.parametrize("rate", ["", "5", "5/", "0/h", "x/h", "5/15", "5/0m", "-1/h", "5/15m "])
def test_what_is_no_rate_is_seen(rate: str) -> None:
    assert not limits.is_rate(rate)
