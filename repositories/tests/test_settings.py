"""Setup command, checks and network list: who may change them, and what they may hold."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from asynccoder.lib.errors import NotAllowed
from repositories.editing import MOST_CHECKS, MOST_HOSTS, edit_repository
from repositories.errors import SettingRefused
from repositories.models import Repository, RepositoryAccess
from repositories.tests.rows import make_repository

API = "/api/v1/repositories/{}"
PAGE = "/repositories/{}/settings/"
BAD_HOSTS = [
    "localhost", "127.0.0.1", "[::1]", "10.1", "0x7f.1", "*.example.org", "https://a.example", "a b",
    "a.example/x", "u@a.example", "a.example:0", "a.example:70000", ".", "bücher.example",
    "a.example\x01", "x" * 300,
]  # fmt: skip


@pytest.fixture
def repository(alice: User) -> Repository:
    return make_repository(alice, setup_command="make deps", network_allow_list=["old.example"])


@pytest.mark.parametrize("method", ["put", "patch"])
def test_owner_changes_what_is_given_and_nothing_else(
    repository: Repository, alice_api: APIClient, method: str
) -> None:
    hosts = [" A.Example ", "a.example:443", ".Example.org", "git.example:9418", ""]
    body = {"check_commands": [" make test ", "make test", "make lint"]}
    assert getattr(alice_api, method)(API.format(repository.pk), body).status_code == 200
    answer = getattr(alice_api, method)(
        API.format(repository.pk), {"network_allow_list": hosts[:4]}
    )
    assert answer.status_code == 200
    assert answer.json() == alice_api.get(API.format(repository.pk)).json()
    assert answer.json()["network_allow_list"] == ["a.example", ".example.org", "git.example:9418"]
    assert answer.json()["check_commands"] == ["make test", "make lint"]
    assert answer.json()["setup_command"] == "make deps"


def test_everything_can_be_emptied(repository: Repository, alice_api: APIClient) -> None:
    body: dict[str, Any] = {"setup_command": "", "check_commands": [], "network_allow_list": []}
    assert alice_api.patch(API.format(repository.pk), body).json().items() >= body.items()


def test_no_other_field_is_taken(repository: Repository, alice_api: APIClient) -> None:
    before = Repository.objects.values().get()
    body = {"url": "https://x.example/a/b", "kind": "local", "owner": "x", "sealed_credential": "x"}
    assert alice_api.patch(API.format(repository.pk), body).status_code == 200
    after = Repository.objects.values().get()
    assert before | {"updated_at": after["updated_at"]} == after


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_bad_host_is_refused_at_its_field(
    repository: Repository, alice_api: APIClient, host: str
) -> None:
    body = {"network_allow_list": ["good.example", host], "setup_command": "changed"}
    answer = alice_api.patch(API.format(repository.pk), body)
    assert (answer.status_code, answer.json()["code"]) == (400, "VALIDATION_ERROR")
    assert "network_allow_list" in str(answer.json()["details"])
    repository.refresh_from_db()
    assert (repository.network_allow_list, repository.setup_command) == (
        ["old.example"],
        "make deps",
    )


@pytest.mark.parametrize(
    ("field", "most", "value"),
    [
        ("network_allow_list", MOST_HOSTS, "h{}.example"),
        ("check_commands", MOST_CHECKS, "make {}"),
    ],
)
def test_lists_have_a_largest_length(
    repository: Repository, alice: User, alice_api: APIClient, field: str, most: int, value: str
) -> None:
    values: Any = [value.format(number) for number in range(most + 1)]
    assert alice_api.patch(API.format(repository.pk), {field: values[:-1]}).status_code == 200
    assert alice_api.patch(API.format(repository.pk), {field: values}).status_code == 400
    with pytest.raises(SettingRefused):
        edit_repository(repository, by=alice, **{field: values})


@pytest.mark.parametrize("field", ["setup_command", "check_commands"])
@pytest.mark.parametrize("command", ["a\nb", "a\0b", "\x1b[2J", "x" * 1001])
def test_a_command_is_one_line(
    repository: Repository, alice: User, field: str, command: str
) -> None:
    value: Any = command if field == "setup_command" else [command]
    with pytest.raises(SettingRefused) as caught:
        edit_repository(repository, by=alice, **{field: value})
    assert caught.value.details == {"field": field}
    value = "x" * 1000 if field == "setup_command" else ["x" * 1000]
    edit_repository(repository, by=alice, **{field: value})


@pytest.mark.parametrize("method", ["put", "patch"])
def test_who_may_not_change_it(
    repository: Repository,
    api: APIClient,
    mallory: User,
    mallory_api: APIClient,
    victor: User,
    victor_api: APIClient,
    method: str,
) -> None:
    path, body = API.format(repository.pk), {"network_allow_list": ["evil.example"]}
    assert getattr(api, method)(path, body).status_code == 401
    assert getattr(mallory_api, method)(path, body).status_code == 404
    assert getattr(mallory_api, method)(API.format(uuid.uuid4()), body).status_code == 404
    RepositoryAccess.objects.create(repository=repository, user=mallory, level="write")
    RepositoryAccess.objects.create(repository=repository, user=victor)
    assert getattr(mallory_api, method)(path, body).status_code == 403
    assert getattr(victor_api, method)(path, body).status_code == 403
    repository.refresh_from_db()
    assert repository.network_allow_list == ["old.example"]


def test_an_administrator_may_and_an_owner_who_only_reads_may_not(
    repository: Repository, staff_api: APIClient, victor: User
) -> None:
    body = {"network_allow_list": ["new.example"]}
    assert staff_api.patch(API.format(repository.pk), body).status_code == 200
    with pytest.raises(NotAllowed):
        edit_repository(make_repository(victor), by=victor, setup_command="x")


def test_the_page_shows_and_saves(repository: Repository, alice: User, page: Client) -> None:
    page.force_login(alice)
    assert PAGE.format(repository.pk).encode() in page.get("/repositories/").content
    shown = page.get(PAGE.format(repository.pk)).content
    assert b"make deps" in shown
    assert b"old.example" in shown
    typed = {
        "setup_command": "npm ci",
        "check_commands": "npm test\r\n\r\nnpm run lint",
        "network_allow_list": "a.example\r\n.B.example:8443\r\n",
    }
    assert page.post(PAGE.format(repository.pk), typed).status_code == 302
    assert b"The settings of acme/app are saved." in page.get("/repositories/").content
    repository.refresh_from_db()
    assert repository.setup_command == "npm ci"
    assert repository.check_commands == ["npm test", "npm run lint"]
    assert repository.network_allow_list == ["a.example", ".b.example:8443"]


def test_a_mistake_is_shown_and_what_was_typed_stays(
    repository: Repository, alice: User, page: Client
) -> None:
    page.force_login(alice)
    typed = {"setup_command": "npm ci", "network_allow_list": "a.example\n<b>10.0.0.1"}
    answer = page.post(PAGE.format(repository.pk), typed)
    assert answer.status_code == 422
    assert b"no IP address" in answer.content
    assert b"npm ci" in answer.content
    assert b"<b>10" not in answer.content
    repository.refresh_from_db()
    assert repository.setup_command == "make deps"


@pytest.mark.parametrize("method", ["get", "post"])
def test_who_may_not_see_the_page(
    repository: Repository, mallory: User, victor: User, page: Client, method: str
) -> None:
    path = PAGE.format(repository.pk)
    answer = getattr(page, method)(path)
    assert (answer.status_code, "sign-in" in answer.headers["Location"]) == (302, True)
    page.force_login(mallory)
    assert getattr(page, method)(path).status_code == 404
    RepositoryAccess.objects.create(repository=repository, user=victor)
    page.force_login(victor)
    assert getattr(page, method)(path).status_code == 403
    assert path.encode() not in page.get("/repositories/").content


def test_the_admin_keeps_the_same_rules(repository: Repository, staff: User, page: Client) -> None:
    page.force_login(staff)
    path = f"/admin/repositories/repository/{repository.pk}/change/"
    form = page.get(path).context["adminform"].form
    values = {name: form[name].value() for name in form.fields}
    values |= {"owner": str(repository.owner_id), "check_commands": "", "description": ""}
    values |= {"language": "", "is_active": "on", "is_private": ""}
    values |= {"access-TOTAL_FORMS": "0", "access-INITIAL_FORMS": "0"}
    assert (
        b"no IP address" in page.post(path, values | {"network_allow_list": '["1.2.3.4"]'}).content
    )
    for junk in ('"a.example"', "[5]", '{"a": 1}'):
        assert page.post(path, values | {"network_allow_list": junk}).status_code == 200
    answer = page.post(path, values | {"network_allow_list": '["New.example"]'})
    assert answer.status_code == 302
    repository.refresh_from_db()
    assert (repository.network_allow_list, repository.check_commands) == (["new.example"], [])
