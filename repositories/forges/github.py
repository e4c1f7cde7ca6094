"""GitHub's REST API, for one user's token: the only place that knows its client.

Values go in and come out; nothing is retried here. Whatever the client, the network or an answer
that makes no sense raises is translated at this edge.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import github
import requests
from github import Auth, GithubException

from accounts.errors import GithubAway
from repositories.errors import GithubMissing, GithubRefused, GithubTokenRefused

PAGE = 100
FULL_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}")
USUAL_WAIT, LONGEST_WAIT = 60.0, 3600.0
"""Seconds to wait after a rate limit that does not say how long, and the most believed."""

# What an answer raises that is not what GitHub sends, here and inside the client, which follows no
# redirect to another host (RuntimeError) and those in a circle until Python ends it (RecursionError).
MALFORMED = (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """A repository as GitHub describes it."""

    github_id: int
    full_name: str
    description: str
    language: str
    default_branch: str
    is_private: bool


@dataclass(frozen=True, slots=True)
class BranchFacts:
    name: str
    commit: str
    is_protected: bool


@dataclass(frozen=True, slots=True)
class PullFacts:
    """A pull request; ``state`` is open, closed or merged, ``described_at`` GitHub's own time."""

    number: int
    title: str
    state: str
    head: str
    base: str
    described_at: datetime


@dataclass(frozen=True, slots=True)
class NewPull:
    """A pull request to be opened, from one branch to another of the same repository."""

    head: str
    base: str
    title: str
    body: str


class GitHub:
    """One user's GitHub. Every method raises GithubTokenRefused, GithubRefused, GithubAway."""

    def __init__(self, token: str, *, api_url: str, timeout: int) -> None:
        self._client = github.Github(
            auth=Auth.Token(token),
            base_url=api_url,
            timeout=timeout,
            retry=None,
            per_page=PAGE,
            seconds_between_requests=None,
            seconds_between_writes=None,
        )

    def close(self) -> None:
        self._client.close()

    def check_token(self) -> None:
        """Ask whose token it is, to learn whether it is still taken."""
        with _translated():
            _object(self._get("/user", {})[0])

    def repositories(self, *, most: int) -> list[RepositoryFacts]:
        """Return what the user can reach, all pages of it, up to ``most``."""
        with _translated():
            rows = self._rows("/user/repos", {"sort": "full_name"}, most=most)
            facts = [_repository(row) for row in rows]
        return [one for one in facts if FULL_NAME.fullmatch(one.full_name)]

    def branches(self, full_name: str, *, most: int) -> list[BranchFacts]:
        with _translated():
            rows = self._rows(f"/repos/{full_name}/branches", {}, most=most)
            return [_branch(row) for row in rows]

    def pull_of(self, full_name: str, head: str) -> PullFacts | None:
        """Return the newest pull request of a branch, in whatever state, or None."""
        asked = {"head": f"{full_name.partition('/')[0]}:{head}", "state": "all"}
        with _translated():
            rows = self._rows(f"/repos/{full_name}/pulls", asked, most=PAGE)
            found = [_pull(row) for row in rows]
        # An older GitHub answers with all of them where it does not know the branch.
        mine = [one for one in found if one.head == head]
        return max(mine, key=lambda one: one.number, default=None)

    def pull(self, full_name: str, number: int) -> PullFacts:
        with _translated():
            return _pull(_object(self._get(f"/repos/{full_name}/pulls/{number}", {})[0]))

    def open_pull(self, full_name: str, new: NewPull) -> PullFacts:
        asked = {"head": new.head, "base": new.base, "title": new.title, "body": new.body}
        with _translated():
            _, made = self._client.requester.requestJsonAndCheck(
                "POST", f"/repos/{full_name}/pulls", input=asked
            )
            return _pull(_object(made))

    def _rows(self, path: str, asked: dict[str, str], *, most: int) -> list[dict[str, Any]]:
        """Return the rows of a list, page after page until GitHub names no next one."""
        rows: list[dict[str, Any]] = []
        for page in range(1, -(-most // PAGE) + 1):
            found, headers = self._get(path, {**asked, "per_page": PAGE, "page": page})
            if not isinstance(found, list):
                raise ValueError("no list")
            rows += [_object(row) for row in found]
            if 'rel="next"' not in str(headers.get("link", "")):
                break
        return rows[:most]

    def _get(self, path: str, asked: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        headers, found = self._client.requester.requestJsonAndCheck("GET", path, parameters=asked)
        return found, headers


def _repository(row: dict[str, Any]) -> RepositoryFacts:
    return RepositoryFacts(
        github_id=_number(row["id"]),
        full_name=_text(row["full_name"]),
        description=_text(row.get("description") or ""),
        language=_text(row.get("language") or ""),
        default_branch=_text(row.get("default_branch") or "main"),
        is_private=bool(row.get("private")),
    )


def _branch(row: dict[str, Any]) -> BranchFacts:
    commit = _text(_object(row["commit"])["sha"])
    return BranchFacts(_text(row["name"]), commit, bool(row.get("protected")))


def _pull(row: dict[str, Any]) -> PullFacts:
    is_merged = row.get("merged") is True or bool(row.get("merged_at"))
    moment = datetime.fromisoformat(_text(row["updated_at"]))
    if moment.tzinfo is None:
        raise ValueError("no moment")
    return PullFacts(
        number=_number(row["number"]),
        title=_text(row["title"]),
        state="merged" if is_merged else {"open": "open"}.get(_text(row["state"]), "closed"),
        head=_text(_object(row["head"])["ref"]),
        base=_text(_object(row["base"])["ref"]),
        described_at=moment,
    )


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**63:
        raise ValueError("no number")
    return value


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except GithubException as error:
        raise _meaning(error) from error
    except (requests.RequestException, OSError) as error:
        raise GithubAway from error
    except MALFORMED as error:
        raise GithubAway("GitHub's answer makes no sense; try again later.") from error


def _meaning(error: GithubException) -> Exception:
    """Return our error for an answer of 400 or more."""
    headers = {name.lower(): str(value) for name, value in (error.headers or {}).items()}
    is_limit = isinstance(error, github.RateLimitExceededException) or error.status == 429
    if is_limit or (error.status == 403 and "retry-after" in headers):
        return GithubAway(
            "GitHub takes no more requests for now; try again later.", retry_after=_wait(headers)
        )
    if error.status == 401:
        return GithubTokenRefused()
    if error.status == 404:
        return GithubMissing()
    if error.status >= 500:
        return GithubAway()
    return GithubRefused(_said(error))


def _wait(headers: dict[str, str]) -> float:
    """Return the seconds to wait: told as such, or as the moment when the hour's limit begins anew."""
    told, reset = headers.get("retry-after", ""), headers.get("x-ratelimit-reset", "")
    seconds = USUAL_WAIT
    if re.fullmatch(r"\d{1,6}", told):
        seconds = float(told)
    elif headers.get("x-ratelimit-remaining") == "0" and re.fullmatch(r"\d{1,12}", reset):
        seconds = float(reset) - time.time()
    return min(max(seconds, 1.0), LONGEST_WAIT)


def _said(error: GithubException) -> str:
    """Return GitHub's reason as one short plain line."""
    data = error.data if isinstance(error.data, dict) else {}
    errors = data.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else {}
    reason = (first.get("message") if isinstance(first, dict) else "") or data.get("message") or ""
    plain = "".join(c for c in str(reason) if c.isprintable())[:200].rstrip(".")
    return f"GitHub refuses this: {plain}." if plain else "GitHub refuses this."
