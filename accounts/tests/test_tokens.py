from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import jwt
import pytest
import time_machine
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from accounts import tokens
from accounts.errors import TokenRefused
from accounts.models import RefreshToken, TokenFamily, User

ME = "/api/v1/users/me"


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def encoded(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def signed(
    claims: dict[str, Any], *, key: str = settings.JWT_SECRET, algorithm: str = "HS256"
) -> str:
    """Sign by hand: PyJWT warns of keys that are short for the longer digests."""
    body = f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{encoded(claims)}"
    digest = hmac.digest(key.encode(), body.encode(), f"sha{algorithm[2:]}")
    return f"{body}.{encoded(digest)}"


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: str = "") -> str:
    return f"{encoded(header)}.{encoded(claims)}.{signature}"


def as_public_key(claims: dict[str, Any]) -> str:
    """Return a token whose HMAC key is a public key: the confusion of HS and RS."""
    public = rsa.generate_private_key(65537, 2048).public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    body = f"{encoded({'alg': 'HS256', 'typ': 'JWT'})}.{encoded(claims)}"
    return f"{body}.{encoded(hmac.digest(pem, body.encode(), hashlib.sha256))}"


def without(claims: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


Forge = Callable[[str, dict[str, Any]], str]
FORGED: dict[str, Forge] = {
    "empty": lambda token, claims: "",
    "no token": lambda token, claims: "rubbish",
    "two dots": lambda token, claims: "..",
    "none": lambda token, claims: unsigned({"alg": "none"}, claims),
    "None": lambda token, claims: unsigned({"alg": "None", "typ": "JWT"}, claims),
    "nOnE with the signature": lambda token, claims: unsigned(
        {"alg": "nOnE"}, claims, token.rpartition(".")[2]
    ),
    "no algorithm": lambda token, claims: unsigned({"typ": "JWT"}, claims),
    "signature cut off": lambda token, claims: token.rpartition(".")[0] + ".",
    "signature of another": lambda token, claims: f"{token[:-6]}AAAAAA",
    "role changed": lambda token, claims: ".".join(
        [token.split(".")[0], encoded(claims | {"role": "admin"}), token.split(".")[2]]
    ),
    "another key": lambda token, claims: signed(claims, key="x" * 40),
    "the key of Django": lambda token, claims: signed(claims, key=settings.SECRET_KEY),
    "HS384": lambda token, claims: signed(claims, algorithm="HS384"),
    "HS512": lambda token, claims: signed(claims, algorithm="HS512"),
    "RS256": lambda token, claims: jwt.encode(
        claims, rsa.generate_private_key(65537, 2048), algorithm="RS256"
    ),
    "public key as secret": lambda token, claims: as_public_key(claims),
    "key by address": lambda token, claims: jwt.encode(
        claims, "x" * 40, headers={"jku": "http://127.0.0.1:9/", "kid": "../../dev/null"}
    ),
    "expired": lambda token, claims: signed(claims | {"exp": int(time.time()) - 1}),
    "not yet": lambda token, claims: signed(claims | {"nbf": int(time.time()) + 60}),
    "from the future": lambda token, claims: signed(claims | {"iat": int(time.time()) + 60}),
    "without exp": lambda token, claims: signed(without(claims, "exp")),
    "exp of words": lambda token, claims: signed(claims | {"exp": "later"}),
    "endless exp": lambda token, claims: signed(claims | {"exp": 10**30}),
    "without jti": lambda token, claims: signed(without(claims, "jti")),
    "without iss": lambda token, claims: signed(without(claims, "iss")),
    "another iss": lambda token, claims: signed(claims | {"iss": "https://clerk.example"}),
    "without aud": lambda token, claims: signed(without(claims, "aud")),
    "another aud": lambda token, claims: signed(claims | {"aud": "other"}),
    "without kind": lambda token, claims: signed(without(claims, "token_type")),
    "another kind": lambda token, claims: signed(claims | {"token_type": "sliding"}),
    "without family": lambda token, claims: signed(without(claims, "fam")),
    "unknown family": lambda token, claims: signed(claims | {"fam": str(uuid.uuid4())}),
    "family of words": lambda token, claims: signed(claims | {"fam": "' OR 1=1"}),
    "without user": lambda token, claims: signed(without(claims, "user_id")),
    "unknown user": lambda token, claims: signed(claims | {"user_id": str(uuid.uuid4())}),
    "sub of a number": lambda token, claims: signed(claims | {"sub": 7}),
    "without mark": lambda token, claims: signed(without(claims, "mark")),
    "another mark": lambda token, claims: signed(claims | {"mark": "0" * 24}),
    "mark of a list": lambda token, claims: signed(claims | {"mark": [1]}),
    "claims of a list": lambda token, claims: f"{token.split('.')[0]}.{encoded([1])}.x",
    "not ascii": lambda token, claims: f"{token}\u00e9",
}


def ask(token: str) -> int:
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return int(api.get(ME).status_code)


def test_the_token_that_is_forged_below_is_good(alice: User) -> None:
    pair = tokens.begin(alice)
    assert ask(pair.access) == 200
    assert ask(signed(claims_of(pair.access))) == 200


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_no_forged_token_is_believed(alice: User, forge: Forge) -> None:
    pair = tokens.begin(alice)
    assert ask(forge(pair.access, claims_of(pair.access))) == 401


def test_another_users_id_or_family_is_refused(alice: User, mallory: User) -> None:
    mine, hers = tokens.begin(mallory), tokens.begin(alice)
    claims = claims_of(mine.access)
    assert ask(signed(claims | {"user_id": str(alice.pk)})) == 401
    assert ask(signed(claims | {"fam": claims_of(hers.access)["fam"]})) == 401


@pytest.mark.parametrize(
    "header", ["Basic YTpi", "Bearer", "Bearer ", "Token x", "x", "bearer x y"]
)
def test_other_authorization_is_401(api: APIClient, db: None, header: str) -> None:
    api.credentials(HTTP_AUTHORIZATION=header)
    assert api.get(ME).status_code == 401


def test_claims_inform_the_client(alice: User, victor: User, staff: User) -> None:
    claims = claims_of(tokens.begin(alice).access)
    assert (claims["sub"], claims["role"], claims["user_id"]) == ("alice", "user", str(alice.pk))
    assert {"build:create", "build:read", "build:cancel", "task:create"} <= set(
        claims["permissions"]
    )
    assert claims["exp"] - claims["iat"] == 3600
    reading = claims_of(tokens.begin(victor).access)["permissions"]
    assert set(reading) == {"build:read", "analysis:read", "task:read"}
    assert claims_of(tokens.begin(staff).access)["role"] == "admin"


def test_the_row_decides_not_the_claim(alice: User, alice_api: APIClient) -> None:
    assert alice_api.get(ME).json()["role"] == "user"
    User.objects.filter(pk=alice.pk).update(role="viewer")
    assert alice_api.get(ME).json()["role"] == "viewer"
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert alice_api.get(ME).status_code == 401


def test_a_new_password_and_a_raised_version_end_every_token(alice: User) -> None:
    pair = tokens.begin(alice)
    alice.set_password("another good password")
    alice.save()
    assert ask(pair.access) == 401
    with pytest.raises(TokenRefused):
        tokens.rotate(pair.refresh)
    pair, other = tokens.begin(alice), tokens.begin(alice)
    tokens.revoke_all(alice)
    assert [ask(pair.access), ask(other.access)] == [401, 401]


def refresh(api: APIClient, token: str) -> Any:
    return api.post("/api/v1/auth/refresh", {"refresh_token": token})


def test_a_refresh_token_is_traded_once(api: APIClient, alice: User) -> None:
    first = tokens.begin(alice)
    answer = refresh(api, first.refresh)
    assert answer.status_code == 200
    body = answer.json()
    assert {"access_token", "refresh_token", "expires_in", "token_type"} <= body.keys()
    assert ask(body["access_token"]) == 200
    assert refresh(api, first.refresh).status_code == 401
    assert refresh(api, body["refresh_token"]).status_code == 200


def test_each_client_gets_its_own_names(api: APIClient, alice: User) -> None:
    body = {"refreshToken": tokens.begin(alice).refresh}
    envelope = api.post("/api/auth/refresh", body).json()
    assert envelope["success"] is True
    assert {"token", "refreshToken"} <= envelope["data"].keys()
    body = {"refresh_token": envelope["data"]["refreshToken"]}
    plain = api.post("/api/auth/refresh", body).json()
    assert {"access_token", "refresh_token", "expires_in"} <= plain.keys()
    assert "success" not in plain
    # Refused, each in its own dialect.
    assert "status_code" in api.post("/api/auth/refresh", body).json()
    body = {"refreshToken": body["refresh_token"]}
    assert api.post("/api/auth/refresh", body).json()["success"] is False


def test_two_tabs_that_race_lose_nothing(api: APIClient, alice: User) -> None:
    first = tokens.begin(alice)
    second = refresh(api, first.refresh).json()
    assert refresh(api, first.refresh).status_code == 401
    assert ask(second["access_token"]) == 200
    assert refresh(api, second["refresh_token"]).status_code == 200


def test_reuse_after_the_successor_was_used_ends_the_family(api: APIClient, alice: User) -> None:
    first = tokens.begin(alice)
    second = refresh(api, first.refresh).json()
    third = refresh(api, second["refresh_token"]).json()
    assert ask(third["access_token"]) == 200
    assert refresh(api, first.refresh).status_code == 401
    assert ask(third["access_token"]) == 401
    assert refresh(api, third["refresh_token"]).status_code == 401


@pytest.mark.parametrize(("seconds", "code"), [(9, 200), (11, 401)])
def test_reuse_after_ten_seconds_ends_the_family(
    api: APIClient, alice: User, seconds: int, code: int
) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        first = tokens.begin(alice)
        second = refresh(api, first.refresh).json()
        clock.shift(timedelta(seconds=seconds))
        assert refresh(api, first.refresh).status_code == 401
        assert ask(second["access_token"]) == code
        assert refresh(api, second["refresh_token"]).status_code == code


def test_another_family_of_the_user_lives_on(api: APIClient, alice: User) -> None:
    first, phone = tokens.begin(alice), tokens.begin(alice)
    refresh(api, refresh(api, first.refresh).json()["refresh_token"])
    refresh(api, first.refresh)
    assert TokenFamily.objects.filter(revoked_at__isnull=False).count() == 1
    assert ask(phone.access) == 200


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_no_forged_refresh_token_is_traded(alice: User, forge: Forge) -> None:
    pair = tokens.begin(alice)
    text = forge(pair.refresh, claims_of(pair.refresh))
    with pytest.raises(TokenRefused):
        tokens.rotate(text)
    assert not RefreshToken.objects.filter(used_at__isnull=False).exists()


def test_neither_kind_of_token_stands_for_the_other(alice: User) -> None:
    pair = tokens.begin(alice)
    with pytest.raises(TokenRefused):
        tokens.rotate(pair.access)
    assert ask(pair.refresh) == 401
    # The control: the same token, signed again as it was, is traded.
    assert tokens.rotate(signed(claims_of(pair.refresh)))


def test_refresh_tokens_expire_and_are_forgotten(alice: User) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        pair = tokens.begin(alice)
        clock.shift(timedelta(seconds=settings.JWT_REFRESH_SECONDS - 1))
        _, last = tokens.rotate(pair.refresh)
        assert tokens.forget_expired() == 0
        clock.shift(timedelta(seconds=settings.JWT_REFRESH_SECONDS + 1))
        with pytest.raises(TokenRefused):
            tokens.rotate(last.refresh)
        tokens.forget_expired()
        assert not TokenFamily.objects.exists()


def test_a_pair_does_not_show_itself(alice: User) -> None:
    assert "eyJ" not in repr(tokens.begin(alice))


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_of_twenty_that_refresh_at_once_exactly_one_gets_through() -> None:
    user = User.objects.create_user("ann", "ann@example.com")
    pair = tokens.begin(user)

    def attempt(_: int) -> str:
        try:
            return tokens.rotate(pair.refresh)[1].access
        except TokenRefused:
            return ""
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        won = [access for access in pool.map(attempt, range(20)) if access]
    assert len(won) == 1
    assert RefreshToken.objects.count() == 2
    assert ask(won[0]) == 200
