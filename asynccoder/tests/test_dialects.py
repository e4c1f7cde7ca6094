from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import Group
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from asynccoder.api.dialects import camel, camelised, snake

pytestmark = [pytest.mark.urls("asynccoder.tests.dialect_urls"), pytest.mark.django_db]

ENVELOPE, PLAIN = "/api/things", "/api/v1/things"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("created_at", "createdAt"), ("is_github_connected", "isGithubConnected"), ("id", "id")],
)
def test_names_go_and_come_back(ours: str, theirs: str) -> None:
    assert camel(ours) == theirs
    assert snake(theirs) == ours


@pytest.mark.parametrize("name", ["", "_x", "a__b", "gpt-4", "src/a_b.py", "A_B", "Ab", "a b_c"])
def test_what_is_not_a_name_of_ours_is_left_alone(name: str) -> None:
    assert camel(name) == name
    assert snake(name) == name


@given(st.from_regex(r"[a-z]+(_[a-z]+)*", fullmatch=True))
def test_every_name_of_letters_comes_back(name: str) -> None:
    if "_" not in name or all(name.split("_")):
        assert snake(camel(name)) == name


def test_recasing_leaves_the_values_and_the_given_data_alone() -> None:
    given = {"a_b": [{"c_d": "e_f"}]}
    assert camelised(given) == {"aB": [{"cD": "e_f"}]}
    assert given == {"a_b": [{"c_d": "e_f"}]}


def test_the_envelope_wraps_and_recases_our_own_names_only(api: APIClient) -> None:
    body = api.get(f"{ENVELOPE}/echo", {"repositoryId": "1", "startDate": "2"}).json()
    assert body["success"] is True
    assert body["data"] == {
        "query": [["repository_id", "1"], ["start_date", "2"]],
        "createdAt": "now",
        "parameters": {"our_key": 1},
        "githubUser": {"avatar_url": "x"},
        "owner": {"avatar_url": "x"},
        "step2Name": [{"isDone": True}],
    }


def test_the_plain_dialect_is_the_data_itself(api: APIClient) -> None:
    body = api.get(f"{PLAIN}/echo", {"repository_id": "1"}).json()
    assert body["created_at"] == "now"
    assert body["query"] == [["repository_id", "1"]]


def test_bodies_reach_the_view_in_snake_case(api: APIClient) -> None:
    given = {"repositoryId": 1, "targetBranch": {"isNew": 2}, "parameters": {"camelKey": {"aB": 1}}}
    body = api.post(f"{ENVELOPE}/echo", given).json()["data"]
    assert body["keys"] == ["parameters", "repository_id", "target_branch"]
    assert "{'is_new': 2}" in body["seen"]
    assert "{'camelKey': {'aB': 1}}" in body["seen"]
    assert api.post(f"{PLAIN}/echo", {"aB": 1}).json()["keys"] == ["aB"]


def test_a_form_reads_like_json(api: APIClient) -> None:
    kind = "application/x-www-form-urlencoded"
    body = api.post(f"{ENVELOPE}/echo", "repositoryId=1&x=a%20b", content_type=kind).json()
    assert body["data"]["seen"] == "{'repository_id': '1', 'x': 'a b'}"


@pytest.mark.parametrize("prefix", [ENVELOPE, PLAIN])
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_trailing_slash_is_optional_for_every_method(
    api: APIClient, prefix: str, slash: str
) -> None:
    assert api.get(f"{prefix}/echo{slash}").status_code == 200
    assert "'a': 1" in api.post(f"{prefix}/echo{slash}", {"a": 1}).content.decode()
    deleted = api.delete(f"{prefix}/echo{slash}")
    assert (deleted.status_code, deleted.content) == (204, b"")


@pytest.mark.parametrize("accept", ["text/html", "text/event-stream", "image/png", "*/*"])
def test_the_answer_is_json_whatever_is_accepted(api: APIClient, accept: str) -> None:
    response = api.get(f"{PLAIN}/echo", HTTP_ACCEPT=accept)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[1]",
        '"text"',
        "null",
        "7",
        "{'a': 1}",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\\u0000"}',
        '{"a": {"b": ["\\u0000"]}}',
        '{"\\u0000": 1}',
        '{"a": "\\ud800"}',
        '{"a": ' + "[" * 65 + "]" * 65 + "}",
        "[" * 100_000,
        '{"a": ' + "9" * 5000 + "}",
        b"\xff\xfe",
        b'{"a": "\xff"}',
    ],
)
@pytest.mark.parametrize("prefix", [ENVELOPE, PLAIN])
def test_a_body_that_no_view_can_use_is_refused(
    api: APIClient, body: str | bytes, prefix: str
) -> None:
    response = api.post(f"{prefix}/echo", body, content_type="application/json")
    assert response.status_code == 400
    assert b"VALIDATION_ERROR" in response.content


def test_what_is_nested_just_deep_enough_is_read(api: APIClient) -> None:
    body = '{"a": ' + "[" * 62 + "]" * 62 + "}"
    response = api.post(f"{PLAIN}/echo", body, content_type="application/json")
    assert response.status_code == 200


def test_a_name_given_in_both_spellings_is_refused(api: APIClient) -> None:
    response = api.post(f"{ENVELOPE}/echo", {"repositoryId": 1, "repository_id": 2})
    assert response.status_code == 400


def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_read(
    api: APIClient, settings: Any
) -> None:
    body = json.dumps({"a": "x" * 100})
    settings.REQUEST_MAX_BYTES = len(body)
    kind = "application/json"
    assert api.post(f"{PLAIN}/echo", body, content_type=kind).status_code == 200
    response = api.post(f"{PLAIN}/echo", body + " ", content_type=kind)
    assert (response.status_code, response.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_the_limits_hold_for_what_a_client_really_sends(api: APIClient, settings: Any) -> None:
    kind, most = "application/json", settings.REQUEST_MAX_BYTES
    body = json.dumps({"a": "x" * (most - 20)})
    assert api.post(f"{PLAIN}/echo", body, content_type=kind).status_code == 200
    response = api.post(f"{PLAIN}/echo", body + " " * 40, content_type=kind)
    assert (response.status_code, response.json()["code"]) == (413, "PAYLOAD_TOO_LARGE")


def test_a_nul_in_the_address_is_refused(api: APIClient) -> None:
    assert api.get(f"{PLAIN}/echo?a=%00").status_code == 400
    assert api.get(f"{PLAIN}/echo%00").status_code == 400


@pytest.fixture
def groups(db: None) -> None:
    Group.objects.bulk_create(Group(name=f"g{n:03}") for n in range(45))


@pytest.mark.usefixtures("groups")
def test_the_envelope_counts_pages(api: APIClient) -> None:
    body = api.get(f"{ENVELOPE}/groups", {"page": 3}).json()
    assert body["meta"] == {"page": 3, "limit": 20, "total": 45, "totalPages": 3}
    assert [group["name"] for group in body["data"]["groups"]] == [
        f"g{n:03}" for n in range(40, 45)
    ]
    assert (body["data"]["total"], body["data"]["page"], body["data"]["limit"]) == (45, 3, 20)


@pytest.mark.usefixtures("groups")
def test_the_plain_dialect_counts_from_an_offset(api: APIClient) -> None:
    body = api.get(f"{PLAIN}/groups", {"limit": 2, "offset": 3}).json()
    groups = [{"name": "g003"}, {"name": "g004"}]
    assert body == {"total": 45, "limit": 2, "offset": 3, "groups": groups}


@pytest.mark.usefixtures("groups")
@pytest.mark.parametrize("past", ["9999", "99999999999999999"])
def test_a_page_past_the_end_is_empty(api: APIClient, past: str) -> None:
    assert api.get(f"{PLAIN}/groups", {"offset": past}).json()["groups"] == []
    assert api.get(f"{ENVELOPE}/groups", {"page": past}).json()["data"]["groups"] == []


@pytest.mark.usefixtures("groups")
def test_a_limit_over_a_hundred_is_cut(api: APIClient) -> None:
    assert api.get(f"{PLAIN}/groups", {"limit": 101}).json()["limit"] == 100
    assert api.get(f"{PLAIN}/groups", {"limit": 100}).json()["limit"] == 100


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5", "1e3", "٣", " 1", "9" * 30])
def test_a_limit_that_is_no_number_is_refused(api: APIClient, number: str) -> None:
    for prefix in (ENVELOPE, PLAIN):
        assert api.get(f"{prefix}/groups", {"limit": number}).status_code == 400
