from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from rest_framework.test import APIClient

from accounts import clerk, tokens
from accounts.clerk import KeySet
from accounts.errors import ClerkAway, TokenRefused
from accounts.models import ExternalIdentity, User
from accounts.tests.clerk_server import (
    ClerkServer,
    private_key,
    public_pem,
    published,
    running_clerk,
)

LOGIN = "/api/auth/login"


@pytest.fixture
def clerk_server(settings: Any) -> Iterator[ClerkServer]:
    with running_clerk() as server:
        settings.CLERK_ISSUER = server.url
        yield server


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def by_secret(claims: dict[str, Any], secret: bytes, **header: Any) -> str:
    """Sign by hand: PyJWT refuses to take a public key as a secret."""
    body = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'one'} | header)}.{part(claims)}"
    digest = hmac.digest(secret, body.encode(), hashlib.sha256)
    return f"{body}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def own_jwk(server: ClerkServer) -> dict[str, Any]:
    return published("one", private_key("foreign"))


def by_foreign_key(server: ClerkServer, **header: Any) -> str:
    headers = {"kid": "one", "typ": "JWT"} | header
    return jwt.encode(server.claims(), private_key("foreign"), "RS256", headers=headers)


Forge = Callable[[ClerkServer], str]
FORGED: dict[str, Forge] = {
    "no token": lambda server: "rubbish",
    "two dots": lambda server: "..",
    "three dots": lambda server: f"{server.token()}.x",
    "not ascii": lambda server: f"{server.token()}\u00e9",
    "none": lambda server: (
        f"{part({'alg': 'none', 'kid': 'one', 'typ': 'JWT'})}.{part(server.claims())}."
    ),
    "nOnE": lambda server: (
        f"{part({'alg': 'nOnE', 'kid': 'one', 'typ': 'JWT'})}.{part(server.claims())}."
    ),
    "no algorithm": lambda server: (
        f"{part({'kid': 'one', 'typ': 'JWT'})}.{part(server.claims())}.x"
    ),
    "signature cut off": lambda server: server.token().rpartition(".")[0] + ".",
    "signature of another": lambda server: (
        server.token().rpartition(".")[0] + "." + server.token(sub="x").rpartition(".")[2]
    ),
    "truncated": lambda server: server.token()[:-10],
    "claims exchanged": lambda server: ".".join(
        [
            server.token().split(".")[0],
            part(server.claims(sub="user_victim")),
            server.token().split(".")[2],
        ]
    ),
    "claims of a list": lambda server: jwt.api_jws.encode(
        b"[1]", private_key("one"), "RS256", headers={"kid": "one"}
    ),
    "another algorithm of the same key": lambda server: jwt.encode(
        server.claims(), private_key("one"), "RS512", headers={"kid": "one"}
    ),
    "probabilistic signature": lambda server: jwt.encode(
        server.claims(), private_key("one"), "PS256", headers={"kid": "one"}
    ),
    "public key as secret": lambda server: by_secret(server.claims(), public_pem("one")),
    "empty secret": lambda server: by_secret(server.claims(), b""),
    "our own secret": lambda server: by_secret(server.claims(), b"a token secret for tests"),
    "foreign key": lambda server: by_foreign_key(server),
    "foreign key by jku": lambda server: by_foreign_key(server, jku="https://evil.example/jwks"),
    "foreign key by x5u": lambda server: by_foreign_key(server, x5u="https://evil.example/cert"),
    "foreign key by jwk": lambda server: by_foreign_key(server, jwk=own_jwk(server)),
    "unknown key id": lambda server: by_foreign_key(server, kid="two"),
    "key id of a path": lambda server: by_foreign_key(server, kid="../../dev/null"),
    "no key id": lambda server: server.token(header={"kid": None}),
    "empty key id": lambda server: server.token(header={"kid": ""}),
    "another kind": lambda server: server.token(header={"typ": "at+jwt"}),
    "no kind": lambda server: server.token(header={"typ": ""}),
    "a critical extension": lambda server: server.token(header={"crit": ["exp2"], "exp2": 1}),
    "expired": lambda server: server.token(exp=int(time.time()) - 10),
    "without exp": lambda server: server.token(exp=None),
    "exp of words": lambda server: server.token(exp="later"),
    "endless exp": lambda server: server.token(exp=float("inf")),
    "not yet": lambda server: server.token(nbf=int(time.time()) + 60),
    "from the future": lambda server: server.token(iat=int(time.time()) + 60),
    "without iat": lambda server: server.token(iat=None),
    "another issuer": lambda server: server.token(iss="https://evil.example"),
    "issuer with a slash": lambda server: server.token(iss=f"{server.url}/"),
    "issuers of a list": lambda server: jwt.api_jws.encode(
        json.dumps(server.claims(iss=[server.url])).encode(),
        private_key("one"),
        "RS256",
        headers={"kid": "one"},
    ),
    "without iss": lambda server: server.token(iss=None),
    "for an audience": lambda server: server.token(aud="another"),
    "for another page": lambda server: server.token(azp="https://evil.example"),
    "for no page": lambda server: server.token(azp=""),
    "pages of a list": lambda server: server.token(azp=["http://localhost:8000"]),
    "without sub": lambda server: server.token(sub=None),
    "empty sub": lambda server: server.token(sub=""),
    "sub with a NUL": lambda server: server.token(sub="user\0x"),
    "endless sub": lambda server: server.token(sub="u" * 256),
    "a sign-in under way": lambda server: server.token(sts="pending"),
}


def test_the_token_that_is_forged_below_is_good(
    api: APIClient, clerk_server: ClerkServer, db: None
) -> None:
    for token in (
        clerk_server.token(),
        clerk_server.token(azp=None),
        clerk_server.token(sts="active"),
    ):
        assert api.post(LOGIN, {"clerkToken": token}).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_no_forged_token_is_believed(
    api: APIClient, clerk_server: ClerkServer, forge: Forge
) -> None:
    answer = api.post(LOGIN, {"clerkToken": forge(clerk_server)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "UNAUTHORIZED")
    assert not ExternalIdentity.objects.exists()
    assert set(clerk_server.requests) <= {"/.well-known/jwks.json"}


@pytest.mark.parametrize("given", [{}, [], None, "", "x" * 8193, ["x"]])
def test_what_is_no_text_is_no_token(
    api: APIClient, clerk_server: ClerkServer, db: None, given: Any
) -> None:
    assert api.post(LOGIN, {"clerkToken": given}).status_code == 400


@pytest.mark.parametrize(
    ("audience", "good"), [("ours", True), (["x", "ours"], True), ("theirs", False), (None, False)]
)
def test_an_audience_that_is_set_must_be_named(
    clerk_server: ClerkServer, settings: Any, audience: Any, good: bool
) -> None:
    settings.CLERK_AUDIENCE = "ours"
    token = clerk_server.token(aud=audience)
    if good:
        assert clerk.verify(token).subject == "user_2abc"
    else:
        with pytest.raises(TokenRefused):
            clerk.verify(token)


def test_neither_verifier_takes_the_others_tokens(
    api: APIClient, clerk_server: ClerkServer, alice: User
) -> None:
    pair = tokens.begin(alice)
    for own in (pair.access, pair.refresh):
        assert api.post(LOGIN, {"clerkToken": own}).status_code == 401
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {clerk_server.token()}")
    assert api.get("/api/users/me").status_code == 401
    assert api.post("/api/auth/refresh", {"refreshToken": clerk_server.token()}).status_code == 401


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def key_set(clerk_server: ClerkServer, clock: Clock) -> KeySet:
    return KeySet(f"{clerk_server.url}/.well-known/jwks.json", clock=clock)


def test_a_new_key_is_found_once_a_minute_has_passed(
    key_set: KeySet, clerk_server: ClerkServer, clock: Clock
) -> None:
    assert key_set.find("one")
    clerk_server.listed.append(published("two", private_key("foreign")))
    for _ in range(100):
        assert key_set.find("two") is None
    assert len(clerk_server.requests) == 1
    clock.now += 61
    assert key_set.find("two")
    for _ in range(100):
        assert key_set.find("three") is None
    assert len(clerk_server.requests) == 2


def test_a_key_that_was_withdrawn_is_forgotten_within_the_hour(
    key_set: KeySet, clerk_server: ClerkServer, clock: Clock
) -> None:
    assert key_set.find("one")
    clerk_server.listed = [published("two", private_key("foreign"))]
    clock.now += KeySet.KEEP - 1
    assert key_set.find("one")
    clock.now += 2
    assert key_set.find("one") is None


def test_known_keys_serve_while_the_issuer_is_away_for_a_day_at_most(
    key_set: KeySet, clerk_server: ClerkServer, clock: Clock
) -> None:
    assert key_set.find("one")
    clerk_server.faults = [500, 500]
    clock.now += KeySet.KEEP + 1
    assert key_set.find("one")
    clock.now += KeySet.KEEP_MOST
    with pytest.raises(ClerkAway):
        key_set.find("one")
    clock.now += KeySet.ASK_AGAIN
    assert key_set.find("one")


@pytest.mark.parametrize(
    "fault",
    [
        404,
        500,
        302,
        b"",
        b"[]",
        b"{",
        b"{}",
        b'{"keys": 7}',
        b'{"keys": [7, null, {}]}',
        b" " * 300_000,
    ],
)
def test_without_any_key_the_answer_is_503_and_it_is_asked_again_soon(
    api: APIClient, clerk_server: ClerkServer, db: None, fault: int | bytes
) -> None:
    clerk_server.faults = [fault]
    answer = api.post(LOGIN, {"clerkToken": clerk_server.token()})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert clerk_server.url not in answer.content.decode()


def test_an_issuer_that_hangs_is_given_up(
    key_set: KeySet, clerk_server: ClerkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clerk, "ANSWER_SECONDS", 0.2)
    clerk_server.faults = ["hang"]
    with pytest.raises(ClerkAway):
        key_set.find("one")


@pytest.mark.parametrize(
    "changes",
    [
        {"kty": "EC"},
        {"use": "enc"},
        {"alg": "RS512"},
        {"n": "AQAB"},
        {"n": ""},
        {"n": None},
        {"e": "!"},
        {"kid": 7},
    ],
)
def test_a_key_that_is_not_for_signing_or_is_weak_is_passed_over(
    key_set: KeySet, clerk_server: ClerkServer, changes: dict[str, Any]
) -> None:
    clerk_server.listed += [published("odd", private_key("foreign"), **changes)]
    assert key_set.find("odd") is None
    assert key_set.find("one")


def test_a_short_key_signs_nothing(key_set: KeySet, clerk_server: ClerkServer) -> None:
    clerk_server.listed += [published("short", private_key("short", 1024))]
    assert key_set.find("short") is None
