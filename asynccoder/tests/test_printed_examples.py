"""What the documents of the API print, run against a server, a worker and GitHub as they are.

Every program is run by its own interpreter and every printed exchange is asked over HTTP or a
socket. Changed are the address, the credentials and the ids, and what an example leaves out itself.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests
import yaml
from websockets.sync.client import connect

from accounts import tokens
from asynccoder.tests.github_server import FakeGithub
from asynccoder.tests.printed import Block, blocks_of, misfit, routes_of
from asynccoder.tests.processes import ROOT
from asynccoder.tests.scene import PASSWORD, WEBHOOK_SECRET, Scene
from repositories.models import Repository
from repositories.tests.github_server import serve_git
from repositories.tests.make import plain_git
from tasks.tests.world import bash, finish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

GITHUB_TOKEN = "gho_of_the_printed_examples"
UNKNOWN = frozenset({"coverage_percent", "tests_passed", "test_coverage"})
"""What only a project with tests of its own has; null until it is known."""
NOT_YET = frozenset(
    {"quality_score", "code_smells", "type_errors", "security_issues", "recommendations"}
)
"""What the 202 of an analysis cannot say."""
OF_AN_SDK = "the package that it imports is tested where it is built"


def of_clients(document: str) -> list[Block]:
    return [block for block in blocks_of(document) if block.is_client]


# --- Documents as a whole ------------------------------------------------------------------------
SOCKETS = re.compile(r"^/(ws|api/ws/)")
NOT_JSON = {"-", "http", "env", "bash", ""}


@pytest.mark.parametrize("document", ["S0", "S1", "S2", "S3"])
def test_every_route_that_is_printed_is_in_the_openapi_document(document: str) -> None:
    paths = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())["paths"]
    known = {(method.upper(), _bare(path)) for path, methods in paths.items() for method in methods}
    named = routes_of(document)
    assert len(named) >= 12
    wanted = {(method, _bare(path)) for method, path in named if not SOCKETS.match(path)}
    assert wanted - known == set()


def _bare(path: str) -> str:
    return re.sub(r"\{\w+\}|:\w+", "*", path).rstrip("/")


@pytest.mark.parametrize("document", ["S0", "S1", "S2", "S3"])
def test_every_block_is_tried(document: str) -> None:
    """Nothing new in a document stays untried: it is an exchange, a program or mere text."""
    for block in blocks_of(document):
        if block.language == "json":
            assert block.value() is not None
            assert block.route or block.heading in TOLD[document], block.place
        elif not block.is_client:
            assert block.language in NOT_JSON, block.place
    programs = {block.heading for block in of_clients(document)}
    assert programs == set(PROGRAMS[document])


# --- S0 ------------------------------------------------------------------------------------------
def test_the_exchanges_of_s0(scene: Scene, github: FakeGithub, tmp_path: Path) -> None:
    _connect_github(scene, github, tmp_path)
    exchanges = _exchanges("S0")
    with connect(f"{scene.url.replace('http', 'ws', 1)}/ws?token={scene.token}") as feed:
        made = _try(scene, exchanges, "POST /api/tasks").json()["data"]["id"]
        assert scene.finished(made).outcome == "done"
        events = _events(feed, {"task:completed"})
    scene.given["taskId"] = made
    for name in ("task:status_updated", "task:completed", "credits:updated"):
        (printed,) = [one.value() for one in blocks_of("S0") if one.heading == name]
        fitting = [
            misfit(one, printed, may_be_null=UNKNOWN) for one in events if one["event"] == name
        ]
        assert "" in fitting, (name, fitting, events)
    for route in exchanges:
        if route == "POST /api/auth/github/connect":
            _begin_connection(scene, github)
        if route == "PUT /api/tasks/:taskId/cancel":
            scene.given["taskId"] = _try(scene, exchanges, "POST /api/tasks").json()["data"]["id"]
        _try(scene, exchanges, route)
    _envelope_is_as_printed(scene)


def _connect_github(scene: Scene, github: FakeGithub, tmp_path: Path) -> None:
    """Let GitHub have a repository that the platform knows, and an account that can be connected."""
    serve_git(github, tmp_path, "octo/app", token=GITHUB_TOKEN)
    github.repositories[0]["description"] = "An application"
    sha = plain_git("rev-parse", "main", cwd=tmp_path / "served/octo/app.git").strip()
    commit = {"sha": sha, "url": f"{github.api}/repos/octo/app/commits/{sha}"}
    github.branches["octo/app"] = [{"name": "main", "commit": commit, "protected": False}]
    _begin_connection(scene, github)
    assert scene.ask(
        "POST",
        "/api/auth/github/connect",
        {"code": scene.given["code"], "state": scene.given["state"]},
    ).ok
    assert scene.ask("POST", "/api/repositories/sync", {"force": True}).ok
    scene.given["repositoryId"] = str(Repository.objects.get(full_name="octo/app").pk)


def _begin_connection(scene: Scene, github: FakeGithub) -> None:
    begun = scene.ask("GET", "/api/v1/users/github").json()
    scene.given |= {"state": begun["state"], "code": github.add_user(GITHUB_TOKEN)}
    github.agree(begun["authorize_url"], scene.given["code"])


def _exchanges(document: str) -> dict[str, dict[str, Block]]:
    """Return the printed requests and replies by route; a request that is not printed is none."""
    found: dict[str, dict[str, Block]] = {}
    for block in blocks_of(document):
        if block.language == "json" and block.route and block.route[0] != "WS":
            kind = "request" if block.label.startswith("Request") else "reply"
            found.setdefault(" ".join(block.route), {})[kind] = block
    return found


def _try(scene: Scene, exchanges: dict[str, dict[str, Block]], route: str) -> requests.Response:
    """Send what is printed, with what the placeholders stand for, and compare the reply."""
    method, path = route.split()
    path = re.sub(r":(\w+)|\{(\w+)\}", lambda found: scene.given[found[1] or found[2]], path)
    request = exchanges[route].get("request")
    body = request.value() | _placeholders(scene, request.value()) if request else None
    headers: dict[str, str] = {}
    if route == "POST /api/auth/logout":
        headers = {"Authorization": f"Bearer {tokens.begin(scene.user).access}"}
    if route == "POST /api/webhooks/github":
        response = _deliver(scene, path)
    else:
        response = scene.ask(method, path, body, **headers)
    reply = exchanges[route]["reply"]
    assert response.ok, (reply.place, response.text)
    wanted = re.search(r"\((2\d\d) ", reply.label)
    assert not wanted or response.status_code == int(wanted[1]), reply.place
    may_be_null = UNKNOWN | NOT_YET if response.status_code == 202 else UNKNOWN
    assert not misfit(response.json(), reply.value(), may_be_null=may_be_null), (
        misfit(response.json(), reply.value(), may_be_null=may_be_null),
        reply.place,
        response.text,
    )
    return response


def _placeholders(scene: Scene, body: dict[str, Any]) -> dict[str, Any]:
    if "refreshToken" in body:
        return {"refreshToken": str(tokens.begin(scene.user).refresh)}
    return {name: scene.given[name] for name in body if name in scene.given}


def _deliver(scene: Scene, path: str) -> requests.Response:
    (block,) = [
        one for one in blocks_of("S0") if one.route == ("POST", path) and one.language == "http"
    ]
    names = re.findall(r"^([\w-]+):", block.text, re.M)
    raw = json.dumps(
        {"action": "opened", "repository": {"id": 5000, "full_name": "octo/app"}}
    ).encode()
    digest = hmac.new(WEBHOOK_SECRET.encode(), raw, hashlib.sha256).hexdigest()
    values = {"X-GitHub-Event": "pull_request", "X-Hub-Signature-256": f"sha256={digest}"}
    headers = {name: values[name] for name in names} | {
        "X-GitHub-Delivery": "0b989ba4-242f-11e5-81e1-c7b6966d2516",
        "Content-Type": "application/json",
    }
    return requests.post(scene.url + path, data=raw, headers=headers, timeout=60)


def _envelope_is_as_printed(scene: Scene) -> None:
    (printed,) = [one.value() for one in blocks_of("S0") if one.heading == "Response Format"]
    listed = scene.ask("GET", "/api/tasks?limit=1").json()
    assert set(listed) <= set(printed)
    assert set(listed["meta"]) == set(printed["meta"])
    refused = scene.ask("GET", "/api/tasks/not-an-id").json()
    assert set(refused["error"]) == set(printed["error"])
    response = scene.ask("GET", "/api/users/me")
    for name in ("Limit", "Remaining"):
        assert response.headers[f"X-RateLimit-{name}"].isdigit()
    assert re.fullmatch(r"[\d-]{10}T[\d:.]+Z", response.headers["X-RateLimit-Reset"])


def _events(line: Any, last: set[str]) -> list[dict[str, Any]]:
    """Read a socket up to an event of one of these names."""
    found: list[dict[str, Any]] = []
    for text in line:
        found.append(json.loads(text))
        if found[-1].get("event", found[-1].get("type")) in last:
            break
    return found


# --- S2 ------------------------------------------------------------------------------------------
def test_the_exchanges_of_s2(scene: Scene) -> None:
    exchanges = _exchanges("S2")
    first = _try(scene, exchanges, "POST /api/build/").json()["task_id"]
    _messages_are_as_printed(scene, first)
    assert scene.finished(first).outcome == "done"
    scene.given |= {"task_id": first}
    commit = (
        'printf \'import sqlite3\\n\\n\\ndef find(name):\\n    line = sqlite3.connect("a")\\n'
        '    return line.execute(f"SELECT * FROM t WHERE n = {name}")\\n\' > find.py'
    )
    scene.world.server.script = [bash(commit), *finish()]
    second = scene.ask("POST", "/api/build/", {"project_name": "my-project", "goal": "Find"}).json()
    assert scene.finished(second["task_id"]).outcome == "done"
    advice = {
        "title": "Bind the name",
        "detail": "Give the name as a parameter of the query.",
        "priority": "high",
        "paths": ["find.py"],
    }
    scene.world.server.script = finish(recommendations=[advice])
    analysis = _try(scene, exchanges, "POST /api/analysis/").json()["analysis_id"]
    scene.finished(analysis)
    scene.given["analysis_id"] = analysis
    for route in exchanges:
        if route.startswith("DELETE"):
            again = scene.ask("POST", "/api/build/", {"project_name": "my-project", "goal": "No"})
            scene.given["task_id"] = again.json()["task_id"]
        if route != "POST /api/analysis/":
            _try(scene, exchanges, route)
    _claims_and_errors_of_s2(scene)


def _messages_are_as_printed(scene: Scene, task_id: str) -> None:
    with connect(
        f"{scene.url.replace('http', 'ws', 1)}/api/ws/build/{task_id}?token={scene.token}"
    ) as line:
        messages = _events(line, {"completion", "error"})
    for block in blocks_of("S2"):
        if block.route and block.route[0] == "WS" and block.language == "json":
            printed = block.value()
            if printed["type"] == "error":
                continue  # A failing build is in tasks.tests.test_work_sockets.
            fitting = [
                misfit(one, printed, may_be_null=UNKNOWN | {"files_created"})
                for one in messages
                if one["type"] == printed["type"]
            ]
            assert "" in fitting, (block.place, fitting, messages)


def _claims_and_errors_of_s2(scene: Scene) -> None:
    printed = {
        block.heading: block.value() for block in blocks_of("S2") if block.language == "json"
    }
    claims = jwt.decode(scene.token, options={"verify_signature": False})
    assert not misfit(claims, printed["JWT Token Structure"], may_be_null=frozenset())
    missing = scene.ask("GET", "/api/build/550e8400-e29b-41d4-a716-446655440000")
    assert missing.status_code == 404
    assert not misfit(missing.json(), printed["Error Handling"], may_be_null=frozenset())
    body = {"project_name": "my-project", "analysis_types": ["quality"]}
    for _ in range(6):
        refused = scene.ask("POST", "/api/analysis/", body)
    assert refused.status_code == 429
    assert not misfit(refused.json(), printed["Rate Limiting"], may_be_null=frozenset())
    assert refused.json()["error"] == printed["Rate Limiting"]["error"]
    assert refused.headers["X-RateLimit-Reset"].isdigit()


# --- Programs ------------------------------------------------------------------------------------
def test_the_programs_of_s0(scene: Scene) -> None:
    (feed,) = [block for block in of_clients("S0") if block.language == "javascript"]
    name = re.findall(r"const (\w+) = new WebSocket", feed.text)[0]
    ask = f"\n{name}.onmessage = (event) => {{ console.log(event.data); {name}.close(); }};"
    ask += f"\n{name}.onopen = () => console.log('open');"
    scene.given["token"] = scene.token
    made = scene.ask(
        "POST",
        "/api/v1/execute",
        {"task_type": "implement", "prompt": "A file", "files": [], "context": {}},
    )
    scene.finished(made.json()["task_id"])
    text = feed.text.replace("/ws'", f"/ws?after=0&token={scene.token}'") + ask
    out = _run(scene, "javascript", text)
    assert json.loads(out.split("open\n", 1)[1].splitlines()[0])["event"] in {
        "task:status_updated",
        "credits:updated",
    }


def test_the_programs_of_s2(scene: Scene) -> None:
    programs = {block.heading: block for block in of_clients("S2")}
    signed_in = json.loads(_run(scene, "bash", programs["1. Get JWT Token"].text))
    assert (signed_in["token_type"], signed_in["access_token"].count(".")) == ("bearer", 2)
    build = json.loads(_run(scene, "bash", programs["2. Create Build Task"].text))
    assert (build["status"], set(build)) == ("initializing", {"task_id", "status", "message"})
    scene.given["task_id"] = build["task_id"]
    out = _run(scene, "javascript", programs["3. Monitor Progress via WebSocket"].text)
    assert "Progress: 100%" in out
    assert "Disconnected" in out
    pages = _run(scene, "bash", programs["GET /api/build/"].text)
    assert [page["offset"] for page in _all_json(pages)] == [0, 10]
    listed = json.loads(_run(scene, "bash", programs["Using JWT Tokens"].text))
    assert [one["task_id"] for one in listed["builds"]] == [build["task_id"]]
    out = _run(scene, "python", f"import time\n{programs['Python Example'].text}")
    assert "Status: completed (100%)\nBuild finished: {" in out
    call = "\ncreateBuild().then((build) => monitorBuild(build.task_id));"
    assert "Progress: 100%" in _run(scene, "javascript", programs["JavaScript Example"].text + call)


def test_the_programs_of_s3(scene: Scene) -> None:
    setup, execute, stream = [block.text for block in of_clients("S3")]
    shown = "\nimport json; print(response.status_code, json.dumps(result))"
    status, _, made = _run(scene, "python", setup + execute + shown).partition(" ")
    assert (status, json.loads(made)["status"]) == ("202", "pending")
    scene.finished(json.loads(made)["task_id"])
    body = "{'task_type': 'implement', 'prompt': 'A file', 'files': [], 'context': {}}"
    out = _run(scene, "python", setup + stream.replace("{...}", body))
    data = [json.loads(line.removeprefix("Progress: ")) for line in out.splitlines()]
    assert data[-1]["results"]["generated_files"] == ["README.md", "added.py"]
    (printed,) = [one.value() for one in blocks_of("S3") if one.heading == "Error Handling"]
    refused = scene.ask("POST", "/api/v1/execute", {"task_type": "no such", "prompt": ""})
    assert not misfit(refused.json(), printed, may_be_null=frozenset())
    assert refused.json()["error"] == printed["error"]


def _all_json(text: str) -> list[dict[str, Any]]:
    found, rest = [], text.strip()
    while rest:
        value, end = json.JSONDecoder().raw_decode(rest)
        found.append(value)
        rest = rest[end:].strip()
    return found


def _run(scene: Scene, language: str, text: str) -> str:
    """Run a program as its reader would, with the reader's own address, account and ids."""
    changes = {
        r"(?<=://)localhost:\d+": scene.url.split("//")[1],
        r"https://[\w.-]+\.railway\.app": scene.url,
        "your-jwt-token|eyJ0eXAiOiJKV1QiLCJhbGc\\.\\.\\.": scene.token,
        '"user"': f'"{scene.user.username}"',
        '"pass"': f'"{PASSWORD}"',
        "your-email@example.com": scene.user.email,
        "your-password": PASSWORD,
        r'"550e8400\.\.\."': f'"{scene.given.get("task_id", "")}"',
    }
    for pattern, value in changes.items():
        text = re.sub(pattern, value, text)
    commands = {
        "python": [sys.executable, "-c", text],
        "javascript": ["node", "--experimental-websocket", "-e", text],
        "bash": ["bash", "-c", text],
    }
    if not shutil.which(commands[language][0]):
        give_up = pytest.fail if os.environ.get("SEEDS_DIR") else pytest.skip
        give_up(f"{commands[language][0]} is not installed")
    environment = {"PATH": os.environ["PATH"], "TOKEN": scene.token}
    ended = subprocess.run(
        commands[language],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, (text, ended.stdout, ended.stderr)
    return ended.stdout


PROGRAMS: dict[str, dict[str, Any]] = {
    "S0": {
        "Connection": test_the_programs_of_s0,
        "JavaScript/TypeScript": OF_AN_SDK,
        "Python": OF_AN_SDK,
    },
    "S1": {},
    "S2": dict.fromkeys(
        (
            "1. Get JWT Token", "2. Create Build Task", "3. Monitor Progress via WebSocket",
            "GET /api/build/", "Using JWT Tokens", "Python Example", "JavaScript Example",
        ),
        test_the_programs_of_s2,
    ),
    "S3": dict.fromkeys(
        ("1. Authentication Setup", "2. Code Generation", "3. Streaming Responses"),
        test_the_programs_of_s3,
    ),
}  # fmt: skip
"""Who runs a program, by its heading."""
TOLD: dict[str, set[str]] = {
    "S0": {"Response Format", "task:status_updated", "task:completed", "credits:updated"},
    "S1": set(),
    "S2": {"JWT Token Structure", "Error Handling", "Rate Limiting"},
    "S3": {"Error Handling"},
}
"""The headings of JSON that no route stands above; tried by name."""
