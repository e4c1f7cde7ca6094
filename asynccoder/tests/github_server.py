"""GitHub on loopback: the OAuth exchange and the part of its REST API that the platform uses.

It speaks the wire format (paging by Link headers, its errors' bodies), so that the real clients
talk to it. Whatever it should do wrong is put into ``faults``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from asynccoder.tests.loopback import answering, listening

TOKEN = "gho_canary0123456789abcdefghijklmnop"
"""A token as GitHub gives it out, to be looked for where none may be."""
API = "/api/v3"
MISSING = (404, {"message": "Not Found", "documentation_url": "https://docs.github.com/rest"})


@dataclass
class Fault:
    """What happens instead of (``status``, ``body``, ``hang``) or after (``after``) the answer.

    ``path`` is a regular expression of "METHOD /path"; ``times`` counts down, -1 is for ever.
    """

    path: str
    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    hang: threading.Event | None = None
    reset: bool = False
    after: bool = False
    """Do what was asked, then lose the answer."""
    times: int = -1


@dataclass
class Seen:
    method: str
    path: str
    query: dict[str, str]
    authorization: str
    form: dict[str, str]


@dataclass
class FakeGithub:
    """The fields may be changed while it runs."""

    client_id: str = "client-of-the-test"
    client_secret: str = "client-secret-canary"
    port: int = 0
    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By token."""
    emails: list[dict[str, Any]] = field(default_factory=list)
    codes: dict[str, str] = field(default_factory=dict)
    """Code to token; each is taken once."""
    challenges: dict[str, str] = field(default_factory=dict)
    """Code to the challenge that the authorize address held."""
    scope: str = "repo"
    repositories: list[dict[str, Any]] = field(default_factory=list)
    branches: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    pulls: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    other: Callable[[BaseHTTPRequestHandler, bytes], bool] | None = None
    """Serves what is not GitHub's API; tells whether it did."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def api(self) -> str:
        return f"{self.url}{API}"

    def add_user(self, token: str, *, user_id: int = 1001, login: str = "octo") -> str:
        """Add an account and return a code that stands for its token."""
        avatar = f"{self.url}/avatars/{user_id}"
        self.users[token] = {
            "id": user_id, "login": login, "name": f"{login} the cat", "avatar_url": avatar,
            "email": None, "type": "User", "url": f"{self.api}/users/{login}",
        }  # fmt: skip
        code = f"code-of-{token}"
        self.codes[code] = token
        return code

    def agree(self, address: str, code: str) -> None:
        """Do what a browser does at the authorize address: bind the code to its challenge."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert asked["client_id"] == self.client_id
        self.challenges[code] = asked["code_challenge"]

    def add_repository(self, name: str, **values: Any) -> dict[str, Any]:
        owner, _, short = name.partition("/")
        row = {
            "id": 5000 + len(self.repositories), "name": short, "full_name": name,
            "owner": {"login": owner, "id": 1}, "private": False, "description": None,
            "language": "Python", "default_branch": "main", "archived": False, "disabled": False,
            "html_url": f"{self.url}/{name}", "clone_url": f"{self.url}/{name}.git",
            "url": f"{self.api}/repos/{name}", "size": 10,
            "permissions": {"admin": False, "push": True, "pull": True},
            **values,
        }  # fmt: skip
        self.repositories.append(row)
        return row

    def repository(self, name: str) -> dict[str, Any] | None:
        return next((row for row in self.repositories if row["full_name"] == name), None)

    def requests(self, pattern: str) -> list[Seen]:
        """Return what was asked so far and fits ``METHOD /path``."""
        with self.lock:
            return [one for one in self.seen if re.search(pattern, f"{one.method} {one.path}")]


@contextmanager
def serving() -> Iterator[FakeGithub]:
    """Run a GitHub for the block; every request thread has ended when it is left."""
    served = FakeGithub()
    with listening(answering(lambda handler: handle(handler, served))) as served.port:
        try:
            yield served
        finally:
            for fault in served.faults:
                if fault.hang:
                    fault.hang.set()


def handle(handler: BaseHTTPRequestHandler, served: FakeGithub) -> None:
    parts = urlsplit(handler.path)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    is_ours = parts.path.startswith((API, "/login/"))
    if not is_ours and served.other and served.other(handler, b""):
        return
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    form = {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
    authorization = handler.headers.get("Authorization", "")
    with served.lock:
        served.seen.append(Seen(handler.command, parts.path, query, authorization, form))
        fault = _fault(served, f"{handler.command} {parts.path}")
        answer: Any = None
        if fault is None or fault.after:
            answer = _answer(served, handler.command, parts.path, query, authorization, body, form)
    if fault is None:
        _send(handler, *answer)
    elif fault.hang:
        fault.hang.wait(60)
    elif not fault.reset:
        _send_raw(handler, fault.status, fault.body, fault.headers)


def _fault(served: FakeGithub, request: str) -> Fault | None:
    for fault in served.faults:
        if fault.times and re.search(fault.path, request):
            fault.times -= 1
            return fault
    return None


def _answer(
    served: FakeGithub, method: str, path: str, query: dict[str, str], authorization: str,
    body: bytes, form: dict[str, str],
) -> tuple[Any, ...]:  # fmt: skip
    if path == "/login/oauth/authorize":
        return _agreed(served, query)
    if path == "/login/oauth/access_token":
        return _exchange(served, form)
    if path == f"{API}/applications/{served.client_id}/grant" and method == "DELETE":
        return _revoke(served, authorization, json.loads(body))
    token = authorization.rpartition(" ")[2]
    user = served.users.get(token)
    if user is None:
        return 401, {"message": "Bad credentials"}
    path = path.removeprefix(API)
    if path == "/user":
        return 200, user
    if path == "/user/emails":
        return 200, served.emails
    if path == "/user/repos":
        return _page(served, path, served.repositories, query)
    found = re.fullmatch(r"/repos/([^/]+/[^/]+)(/.*)?", path)
    row = served.repository(found[1]) if found else None
    if found is None or row is None:
        return MISSING
    return _of_repository(served, row, method, found[2] or "", query, body)


def _of_repository(
    served: FakeGithub, row: dict[str, Any], method: str, rest: str, query: dict[str, str],
    body: bytes,
) -> tuple[Any, ...]:  # fmt: skip
    name = row["full_name"]
    if not rest:
        return 200, row
    if rest == "/branches":
        return _page(served, f"/repos/{name}/branches", served.branches.get(name, []), query)
    if rest == "/pulls" and method == "POST":
        return _open_pull(served, name, json.loads(body))
    if rest == "/pulls":
        found = [
            pull
            for pull in served.pulls.get(name, [])
            if query.get("head", pull["head"]["label"]) == pull["head"]["label"]
            and query.get("state", "open") in ("all", pull["state"])
        ]
        return _page(served, f"/repos/{name}/pulls", found, query)
    one = re.fullmatch(r"/pulls/(\d+)", rest)
    pulls = served.pulls.get(name, [])
    if one and 0 < int(one[1]) <= len(pulls):
        return 200, pulls[int(one[1]) - 1]
    return MISSING


def _open_pull(served: FakeGithub, name: str, asked: dict[str, Any]) -> tuple[Any, ...]:
    owner = name.partition("/")[0]
    pulls = served.pulls.setdefault(name, [])
    label = f"{owner}:{asked['head']}"
    if any(pull["head"]["label"] == label and pull["state"] == "open" for pull in pulls):
        message = f"A pull request already exists for {label}."
        errors = [{"resource": "PullRequest", "code": "custom", "message": message}]
        return 422, {"message": "Validation Failed", "errors": errors}
    number = len(pulls) + 1
    pull = {
        "id": 9000 + number, "number": number, "state": "open", "title": asked["title"],
        "body": asked.get("body"), "draft": asked.get("draft", False), "merged": False,
        "html_url": f"{served.url}/{name}/pull/{number}",
        "url": f"{served.api}/repos/{name}/pulls/{number}",
        "head": {"ref": asked["head"], "label": label, "sha": "0" * 40},
        "base": {"ref": asked["base"], "label": f"{owner}:{asked['base']}", "sha": "1" * 40},
        "user": {"login": "octo", "id": 1001},
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    pulls.append(pull)
    return 201, pull


def _agreed(served: FakeGithub, query: dict[str, str]) -> tuple[Any, ...]:
    """Lead a browser back at once, as GitHub does with a user who has agreed before."""
    code = next(iter(served.codes))
    served.challenges[code] = query["code_challenge"]
    back = f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
    return 302, {}, {"Location": back}


def _exchange(served: FakeGithub, form: dict[str, str]) -> tuple[Any, ...]:
    # GitHub answers its refusals with 200.
    pair = (form.get("client_id"), form.get("client_secret"))
    if pair != (served.client_id, served.client_secret):
        return 200, {"error": "incorrect_client_credentials", "error_description": "No."}
    code = form.get("code", "")
    wanted = served.challenges.get(code)
    digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
    given = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    if code not in served.codes or (wanted is not None and wanted != given):
        return 200, {"error": "bad_verification_code", "error_description": "Expired."}
    token = served.codes.pop(code)
    return 200, {"access_token": token, "scope": served.scope, "token_type": "bearer"}


def _revoke(served: FakeGithub, authorization: str, asked: dict[str, Any]) -> tuple[Any, ...]:
    pair = base64.b64encode(f"{served.client_id}:{served.client_secret}".encode()).decode()
    if authorization != f"Basic {pair}":
        return 401, {"message": "Bad credentials"}
    # All tokens of the user who agreed, not only this one.
    user = served.users.get(asked["access_token"])
    if user is None:
        return MISSING
    for token in [one for one, owner in served.users.items() if owner["id"] == user["id"]]:
        del served.users[token]
    return 204, None


def _page(
    served: FakeGithub, path: str, rows: list[dict[str, Any]], query: dict[str, str]
) -> tuple[Any, ...]:
    size, number = int(query.get("per_page", 30)), int(query.get("page", 1))
    last = max(1, -(-len(rows) // size))
    kept = {name: value for name, value in query.items() if name != "page"}
    asked = "&".join(f"{name}={value}" for name, value in kept.items())
    links = {"next": number + 1, "last": last} if number < last else {}
    header = ", ".join(
        f'<{served.api}{path}?{asked}&page={page}>; rel="{rel}"' for rel, page in links.items()
    )
    headers = {"Link": header} if header else {}
    return 200, rows[(number - 1) * size : number * size], headers


def _send(
    handler: BaseHTTPRequestHandler, status: int, data: Any, headers: dict[str, str] | None = None
) -> None:
    _send_raw(handler, status, json.dumps(data).encode(), headers or {})


def _send_raw(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
) -> None:
    try:
        handler.send_response(status)
        kind = {"Content-Type": "application/json; charset=utf-8"}
        for name, value in {**kind, **headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
    except ConnectionError:
        pass
