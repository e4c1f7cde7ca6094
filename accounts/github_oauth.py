"""GitHub's side of connecting an account: where the user agrees, and the code's exchange.

The only place in this app that reaches GitHub. What it answers is checked and translated here;
the token leaves as a Secret.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import requests
from django.conf import settings
from django.utils.crypto import salted_hmac
from social_core.backends.github import GithubOAuth2
from social_core.exceptions import AuthCanceled, AuthCredentialError, SocialAuthBaseException
from social_core.strategy import BaseStrategy

from accounts.errors import CodeRefused, GithubAway, GithubNotSet
from asynccoder.lib import redact
from asynccoder.lib.fields import Secret

logger = logging.getLogger(__name__)

MOST_ID = 2**63 - 1
REVOKE_SECONDS = 5
MISCONFIGURED = {"incorrect_client_credentials", "redirect_uri_mismatch", "application_suspended"}


@dataclass(frozen=True, slots=True)
class Granted:
    """What GitHub said of the account that agreed, with the token that it gave us."""

    token: Secret
    github_id: int
    login: str
    name: str
    avatar_url: str
    scopes: str


class _Values(BaseStrategy[Any]):
    """Hands a backend its settings and one request's values; there is no session and no table."""

    def __init__(self, **data: str) -> None:
        super().__init__()
        self._data = data

    def get_setting(self, name: str) -> Any:
        return {
            "SOCIAL_AUTH_GITHUB_KEY": settings.GITHUB_CLIENT_ID,
            "SOCIAL_AUTH_GITHUB_SECRET": settings.GITHUB_CLIENT_SECRET,
            "SOCIAL_AUTH_GITHUB_REQUESTS_TIMEOUT": settings.GITHUB_TIMEOUT_SECONDS,
        }[name]

    def request_data(self, merge: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002 # the library's signature
        return dict(self._data)

    def build_absolute_uri(self, path: str | None = None) -> str:
        return path or ""


class Backend(GithubOAuth2[Any]):
    """The library's backend at the operator's GitHub; it asks for no e-mail address."""

    DEFAULT_SCOPE = ["repo"]

    def authorization_url(self) -> str:
        return f"{settings.GITHUB_URL}/login/oauth/authorize"

    def access_token_url(self) -> str:
        return f"{settings.GITHUB_URL}/login/oauth/access_token"

    def api_url(self) -> str:
        return f"{settings.GITHUB_API_URL}/"

    def user_data(self, access_token: str, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        found: dict[str, Any] = self._user_data(access_token)  # type: ignore[no-untyped-call] # the library has no annotations
        return found


def require_settings() -> None:
    """Raise GithubNotSet unless the operator has named the OAuth app."""
    if not (settings.GITHUB_CLIENT_ID and settings.GITHUB_CLIENT_SECRET):
        raise GithubNotSet


def authorize_url(state: str, *, redirect_uri: str = "") -> str:
    """Return the address at which the user agrees. Raises GithubNotSet."""
    require_settings()
    backend = Backend(_Values(), redirect_uri=redirect_uri)
    asked = {**backend.auth_params(state), **backend.get_scope_argument()}  # type: ignore[no-untyped-call] # the library has no annotations
    asked |= {"code_challenge": _challenge(state), "code_challenge_method": "S256"}
    return f"{backend.authorization_url()}?{urlencode({k: v for k, v in asked.items() if v})}"


def exchange(code: str, *, state: str = "", redirect_uri: str = "") -> Granted:
    """Trade a code for a token and ask whose it is.

    ``state`` is the one that began the flow, if we began it: the proof of the key that was sent
    with it (PKCE) is made of it. Raises CodeRefused, GithubAway, GithubNotSet.
    """
    require_settings()
    backend = Backend(_Values(code=code), redirect_uri=redirect_uri)
    asked = backend.auth_complete_params()  # type: ignore[no-untyped-call] # the library has no annotations
    if state:
        asked["code_verifier"] = _verifier(state)
    try:
        answer = backend.request_access_token(
            backend.access_token_url(),
            method="POST",
            data={key: value for key, value in asked.items() if value},
            headers=backend.auth_headers(),
        )
        token = backend.get_access_token(answer)
        redact.register(token)
        found = backend.user_data(token)
    except SocialAuthBaseException as error:
        raise _meaning(error) from error
    return _granted(token, str(answer.get("scope") or ""), found)


def revoke(token: Secret) -> bool:
    """Take back what the user agreed to, with every token of it; tell whether GitHub says so.

    It is asked once and not waited for long: a user who disconnects is not kept by GitHub.
    """
    address = f"{settings.GITHUB_API_URL}/applications/{settings.GITHUB_CLIENT_ID}/grant"
    try:
        require_settings()
        with requests.delete(
            address,
            auth=(settings.GITHUB_CLIENT_ID, settings.GITHUB_CLIENT_SECRET),
            json={"access_token": token.reveal()},
            headers={"Accept": "application/vnd.github+json"},
            timeout=min(REVOKE_SECONDS, settings.GITHUB_TIMEOUT_SECONDS),
            # The token goes to no other address.
            allow_redirects=False,
            stream=True,
        ) as answer:
            status = answer.status_code
    except (GithubNotSet, requests.RequestException) as error:
        logger.warning("a grant is not revoked at GitHub: %s", type(error).__name__)
        return False
    if status != HTTPStatus.NO_CONTENT:
        logger.warning("a grant is not revoked at GitHub: status %s", status)
    return status == HTTPStatus.NO_CONTENT


def _verifier(state: str) -> str:
    return salted_hmac("accounts.github_oauth", state, algorithm="sha256").hexdigest()


def _challenge(state: str) -> str:
    digest = hashlib.sha256(_verifier(state).encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _meaning(error: SocialAuthBaseException) -> CodeRefused | GithubAway | GithubNotSet:
    said = str(getattr(error, "provider_code", "") or "")
    if said in MISCONFIGURED:
        return GithubNotSet(
            f"GitHub refuses this server's GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET ({said})."
        )
    if isinstance(error, AuthCredentialError | AuthCanceled):
        return CodeRefused()
    return GithubAway()


def _granted(token: str, scopes: str, user: Any) -> Granted:
    """Check what GitHub said of the user: it is stored and shown. Raises GithubAway."""
    values = user if isinstance(user, dict) else {}
    github_id, login = values.get("id"), values.get("login")
    is_id = isinstance(github_id, int) and not isinstance(github_id, bool)
    if not is_id or not 0 < int(github_id or 0) <= MOST_ID or not _is_text(login, 100):
        raise GithubAway("GitHub's answer says nothing of the account; try again.")
    name, avatar_url = values.get("name"), values.get("avatar_url")
    is_address = _is_text(avatar_url, 500) and str(avatar_url).startswith(("https://", "http://"))
    return Granted(
        token=Secret(token),
        github_id=int(github_id or 0),
        login=str(login),
        name=str(name) if _is_text(name, 255) else "",
        avatar_url=str(avatar_url) if is_address else "",
        scopes=scopes[:200] if _is_text(scopes, 10_000) else "",
    )


def _is_text(value: object, most: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= most and value.isprintable()
