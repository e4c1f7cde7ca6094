"""The pages of tasks: what the owner, a viewer, a stranger and nobody gets, and at what price."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from repositories.models import RepositoryAccess
from tasks.models import Status, Task, TaskType
from tasks.tests.make import make_log, make_model, make_repository, make_step, make_task
from tasks.tests.story import answered_task, completed_task, failed_task, running_task
from tasks.workspace import store_path

FRAGMENT = {"HX-Request": "true"}


def pages_of(task: Task) -> list[str]:
    base = f"/tasks/{task.pk}/"
    return [
        base, f"{base}?tab=changes", f"{base}?tab=checks", f"{base}?tab=cost", f"{base}rows/?after=0",
        f"{base}pane/?tab=result", f"{base}line/", f"{base}steps/1/", f"{base}steps/1/raw/",
        f"{base}files/0/", f"{base}patch/", f"{base}cancel/",
    ]  # fmt: skip


def share(task: Task, user: User) -> None:
    assert task.repository is not None
    RepositoryAccess.objects.create(repository=task.repository, user=user)


def seen(page: Client, user: User, path: str, **headers: str) -> str:
    page.force_login(user)
    response = page.get(path, headers=headers or None)
    assert response.status_code == 200, response
    return response.content.decode()


@pytest.mark.parametrize("at", range(12))
def test_stranger_gets_404(page: Client, alice: User, mallory: User, at: int) -> None:
    path = pages_of(completed_task(alice))[at]
    page.force_login(mallory)
    assert page.get(path, headers=FRAGMENT).status_code == 404
    page.force_login(alice)
    assert page.get(path, headers=FRAGMENT).status_code == 200


@pytest.mark.parametrize("at", range(12))
def test_anonymous_is_sent_to_sign_in(page: Client, alice: User, at: int) -> None:
    answer = page.get(pages_of(completed_task(alice))[at])
    assert answer.status_code == 302
    assert answer["Location"].startswith("/sign-in/?next=")


@pytest.mark.parametrize("path", ["/", "/tasks/", "/tasks/new/"])
def test_anonymous_sees_no_list(page: Client, db: None, path: str) -> None:
    assert page.get(path)["Location"].startswith("/sign-in/")


def test_viewer_sees_and_cannot_act(page: Client, alice: User, victor: User) -> None:
    task = running_task(alice)
    share(task, victor)
    text = seen(page, victor, f"/tasks/{task.pk}/")
    assert "view only" in text
    assert "Ask alice to change this" in text
    assert "/cancel/" not in text
    assert page.post(f"/tasks/{task.pk}/cancel/").status_code == 403
    assert page.get("/tasks/new/").status_code == 403
    task.refresh_from_db()
    assert task.cancel_requested_at is None


def test_somebody_a_task_is_shared_with_does_not_cancel_it(
    page: Client, alice: User, mallory: User
) -> None:
    task = running_task(alice)
    share(task, mallory)
    page.force_login(mallory)
    assert page.get(f"/tasks/{task.pk}/").status_code == 200
    assert page.post(f"/tasks/{task.pk}/cancel/").status_code == 403


def test_task_page_tells_the_run(page: Client, alice: User) -> None:
    text = seen(page, alice, f"/tasks/{running_task(alice).pk}/")
    for words in (
        "Fix rounding in invoice totals", "62", "Round once, at the total", "Ran pytest -k total",
        "exit 1", "Each line is rounded and then summed", "41,000 in", "Checkpoint", "Picked up",
        '<span class="a-bold a-yellow">1 failed</span>',
    ):  # fmt: skip
        assert words in text


def test_rows_cover_the_log_without_gap_or_overlap(page: Client, alice: User) -> None:
    task = completed_task(alice)
    text = seen(page, alice, f"/tasks/{task.pk}/rows/?after=0", **FRAGMENT)
    assert covered(text) == list(range(1, task.event_sequence + 2))[:-1]
    later = seen(page, alice, f"/tasks/{task.pk}/rows/?after=5", **FRAGMENT)
    assert covered(later) == list(range(6, Task.objects.get(pk=task.pk).event_sequence + 1))


def covered(text: str) -> list[int]:
    """Return every sequence number that the rows of a page cover, in order."""
    spans = re.findall(r'data-from="(\d+)" data-seq="(\d+)"', text)
    return [number for first, last in spans for number in range(int(first), int(last) + 1)]


def test_rows_say_where_to_go_on(page: Client, alice: User) -> None:
    task = running_task(alice)
    for number in range(250):
        make_log(task, message=f"line {number}")
    page.force_login(alice)
    cursor, numbers = 0, []
    while True:
        answer = page.get(f"/tasks/{task.pk}/rows/?after={cursor}", headers=FRAGMENT)
        found = covered(answer.content.decode())
        if not found:
            break
        numbers += found
        cursor = int(answer["X-Cursor"])
    assert numbers == list(range(1, task.event_sequence + 1))


def test_earlier_rows_are_reached_from_the_newest(page: Client, alice: User) -> None:
    task = make_task(owner=alice)
    for number in range(350):
        make_log(task, message=f"line {number}")
    first = seen(page, alice, f"/tasks/{task.pk}/")
    assert covered(first) == list(range(51, 351))
    earlier = seen(page, alice, f"/tasks/{task.pk}/rows/?before=51", **FRAGMENT)
    assert covered(earlier) == list(range(1, 51))


def test_a_settled_step_hides_the_row_that_said_it_runs(page: Client, alice: User) -> None:
    task = make_task(owner=alice, status=Status.RUNNING)
    make_step(task, summary="Ran ls")
    data = {"ordinal": 1, "kind": "tool_call", "name": "bash", "summary": "Ran ls"}
    make_log(task, kind="step.started", data=data)
    assert seen(page, alice, f"/tasks/{task.pk}/").count("Ran ls") == 1
    make_log(task, kind="step.finished", data=data | {"exit_code": 0})
    text = seen(page, alice, f"/tasks/{task.pk}/")
    assert text.count("Ran ls") == 1
    assert "exit 0" in text


@pytest.mark.parametrize("path", ["rows/?after=1", "pane/?tab=cost", "line/", "files/0/"])
def test_fragment_asked_for_by_hand_leads_to_the_page(page: Client, alice: User, path: str) -> None:
    task = completed_task(alice)
    page.force_login(alice)
    answer = page.get(f"/tasks/{task.pk}/{path}")
    assert answer.status_code == 302
    assert answer["Location"].startswith(f"/tasks/{task.pk}/")


def test_completed_task_opens_with_its_result(page: Client, alice: User) -> None:
    text = seen(page, alice, f"/tasks/{completed_task(alice).pk}/")
    assert "Lines are kept exact; the total is rounded <strong>once</strong>" in text
    assert "2 files changed" in text
    assert "Ended" in text


def test_failed_task_says_why_and_whose_fault(page: Client, alice: User) -> None:
    text = seen(page, alice, f"/tasks/{failed_task(alice).pk}/")
    assert "The tests need the network" in text
    assert "Only the model calls that were made are charged." in text
    task = failed_task(alice)
    Task.objects.filter(pk=task.pk).update(error_code="worker_lost")
    assert "This was our fault." in seen(page, alice, f"/tasks/{task.pk}/")


def test_changes_are_shown_with_colours_and_marks(page: Client, alice: User) -> None:
    text = seen(page, alice, f"/tasks/{completed_task(alice).pk}/?tab=changes")
    assert '<span class="key">def</span> <span class="fun">total</span>' in text
    assert "<mark>" in text
    assert 'id="file-1"' in text
    assert "+7" in text
    assert "\u22122" in text


def test_ticks_come_from_checks_only(page: Client, alice: User) -> None:
    said = "All 412 tests pass ✅ and I verified everything."
    claimed = seen(page, alice, f"/tasks/{answered_task(alice, said).pk}/")
    assert "412 tests pass" in claimed
    pane = claimed[claimed.index('id="pane"') :]
    assert "st-completed" not in pane
    proven = seen(page, alice, f"/tasks/{completed_task(alice).pk}/?tab=checks")
    assert "st-completed" in proven[proven.index('id="pane"') :]
    assert "exit 0" in proven
    assert "5 passed in 1.28s" in proven


def test_cost_adds_up_to_what_was_charged(page: Client, alice: User) -> None:
    task = completed_task(alice)
    Task.objects.filter(pk=task.pk).update(charged_microcredits=4_200_001)
    text = seen(page, alice, f"/tasks/{task.pk}/?tab=cost")
    assert "Other charges and refunds" in text
    rows = [float(cell) for cell in re.findall(r'<td class="right num">([\d.]+)</td></tr>', text)]
    assert rows[0] + rows[1] == pytest.approx(rows[2]) == 4.200001


def test_answer_is_rendered_as_markdown(page: Client, alice: User) -> None:
    task = answered_task(alice, "# VAT\n\nSee `vat.py:12` and [docs](https://example.com).")
    text = seen(page, alice, f"/tasks/{task.pk}/")
    assert "<h1>VAT</h1>" in text
    assert 'rel="noopener noreferrer nofollow"' in text


def test_review_lists_its_findings(page: Client, alice: User) -> None:
    task = answered_task(alice, "Two things.")
    task.result.kind = "review"
    task.result.data = {
        "findings": [{"path": "a.py", "line": 7, "severity": "high", "message": "Off by one."}]
    }
    task.result.save()
    text = seen(page, alice, f"/tasks/{task.pk}/")
    assert "a.py:7" in text
    assert "Off by one." in text


def test_step_page_shows_everything_a_thousand_lines_at_a_time(page: Client, alice: User) -> None:
    task = make_task(owner=alice)
    lines = "\n".join(f"line {number}" for number in range(1, 2501))
    make_step(
        task, outcome=f'{{"text": "{lines}"}}'.replace("\n", "\\n"), input='{"command": "seq"}'
    )
    first = seen(page, alice, f"/tasks/{task.pk}/steps/1/")
    assert "line 1000<" in first
    assert "line 1001<" not in first
    last = seen(page, alice, f"/tasks/{task.pk}/steps/1/?from=2001")
    assert "line 2500<" in last
    assert 'id="L2500"' in last
    raw = page.get(f"/tasks/{task.pk}/steps/1/raw/")
    assert raw.content.decode() == lines
    assert raw["Content-Disposition"].startswith("attachment")
    assert page.get(f"/tasks/{task.pk}/steps/2/").status_code == 404


def test_patch_is_the_diff(page: Client, alice: User) -> None:
    task = completed_task(alice)
    page.force_login(alice)
    answer = page.get(f"/tasks/{task.pk}/patch/")
    assert answer.content.decode() == task.result.diff
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_home_shows_what_runs_and_what_ended(page: Client, alice: User, mallory: User) -> None:
    running_task(alice, title="Runs now")
    completed_task(alice, title="Has ended")
    running_task(mallory, title="Of somebody else")
    text = seen(page, alice, "/")
    assert text.index("Runs now") < text.index("Has ended")
    assert "Of somebody else" not in text


def test_list_filters_and_keeps_strangers_out(page: Client, alice: User, mallory: User) -> None:
    running_task(alice, title="Alpha")
    completed_task(alice, title="Beta", type=TaskType.BUILD)
    running_task(mallory, title="Gamma")
    titles = {
        query: set(re.findall(r"Alpha|Beta|Gamma", seen(page, alice, f"/tasks/{query}")))
        for query in ("", "?status=open", "?status=ended", "?type=build", "?q=lph", "?status=wrong")
    }
    assert titles == {
        "": {"Alpha", "Beta"}, "?status=open": {"Alpha"}, "?status=ended": {"Beta"},
        "?type=build": {"Beta"}, "?q=lph": {"Alpha"}, "?status=wrong": {"Alpha", "Beta"},
    }  # fmt: skip
    assert "No task matches these filters" in seen(page, alice, "/tasks/?q=nothing-like-it")


def test_list_goes_page_by_page_over_every_task_once(page: Client, alice: User) -> None:
    repository = make_repository(owner=alice)
    for number in range(60):
        make_task(owner=alice, repository=repository, title=f"Task <{number}>")
    Task.objects.update(created_at=timezone.now())  # All at one moment: the id decides.
    page.force_login(alice)
    path, titles = "/tasks/?type=debug", []
    for _ in range(3):
        text = page.get(path).content.decode()
        titles += re.findall(r"Task &lt;(\d+)&gt;", text)
        found = re.search(r'href="\?([^"]+)" rel="next"', text)
        path = f"/tasks/?{found[1].replace('&amp;', '&')}" if found else ""
    assert path == ""
    assert sorted(map(int, titles)) == list(range(60))
    assert page.get("/tasks/?after=nonsense").status_code == 200


QUERIES = {"/": 7, "/tasks/": 6, "/tasks/new/": 6, "detail": 8, "rows": 7}


@pytest.mark.parametrize("name", QUERIES)
def test_queries_are_counted(
    page: Client, alice: User, django_assert_num_queries: Callable[..., Any], name: str
) -> None:
    for _ in range(3):
        task = completed_task(alice)
    page.force_login(alice)
    path = {"detail": f"/tasks/{task.pk}/", "rows": f"/tasks/{task.pk}/rows/?after=0"}.get(
        name, name
    )
    with django_assert_num_queries(QUERIES[name]):
        assert page.get(path, headers=FRAGMENT).status_code == 200


# --- Acts ----------------------------------------------------------------------------------------


def form_of(page: Client, **values: Any) -> dict[str, Any]:
    text = page.get("/tasks/new/").content.decode()
    key = re.search(r'name="idempotency_key" value="([^"]+)"', text)
    assert key is not None
    return {"type": "analysis", "prompt": "Look at it", "idempotency_key": key[1]} | values


def test_new_task_is_created_once_however_often_it_is_sent(page: Client, alice: User) -> None:
    make_model()
    page.force_login(alice)
    repository = make_repository(owner=alice)
    form = form_of(page, repository=str(repository.pk))
    answers = [page.post("/tasks/new/", form) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [303, 303], answers[0].content.decode()
    task = Task.objects.get()
    assert answers[0]["Location"] == answers[1]["Location"] == f"/tasks/{task.pk}/"
    assert task.prompt == "Look at it"
    changed = page.post("/tasks/new/", form | {"prompt": "Something else"})
    assert changed.status_code == 422
    assert "already started from this page" in changed.content.decode()
    key = re.search(r'name="idempotency_key" value="([^"]+)"', changed.content.decode())
    assert key is not None
    assert key[1] != form["idempotency_key"]


def test_errors_of_the_form_stand_at_their_field(page: Client, alice: User) -> None:
    page.force_login(alice)
    answer = page.post("/tasks/new/", form_of(page, prompt="", type="wrong"))
    assert answer.status_code == 422
    text = answer.content.decode()
    assert 'aria-invalid="true"' in text
    assert "The task was not started." in text
    assert not Task.objects.exists()


def test_repository_of_another_is_no_choice(page: Client, alice: User, mallory: User) -> None:
    foreign = make_repository(owner=mallory)
    page.force_login(alice)
    answer = page.post("/tasks/new/", form_of(page, repository=str(foreign.pk)))
    assert answer.status_code == 422
    assert foreign.full_name not in answer.content.decode()


def test_reason_of_a_refusal_is_shown_in_the_form(page: Client, alice: User) -> None:
    page.force_login(alice)
    answer = page.post("/tasks/new/", form_of(page, type="debug"))
    assert answer.status_code == 422
    assert 'role="alert"' in answer.content.decode()
    assert not Task.objects.exists()


def test_cancel_asks_first_and_needs_a_post(page: Client, alice: User) -> None:
    task = running_task(alice)
    page.force_login(alice)
    assert "Cancel the task" in page.get(f"/tasks/{task.pk}/cancel/").content.decode()
    task.refresh_from_db()
    assert task.cancel_requested_at is None
    answer = page.post(f"/tasks/{task.pk}/cancel/")
    assert (answer.status_code, answer["Location"]) == (303, f"/tasks/{task.pk}/")
    task.refresh_from_db()
    assert task.cancel_requested_at is not None
    assert "Cancelling" in page.get(f"/tasks/{task.pk}/").content.decode()


def test_cancel_of_an_ended_task_says_so(page: Client, alice: User) -> None:
    task = completed_task(alice)
    page.force_login(alice)
    answer = page.post(f"/tasks/{task.pk}/cancel/", follow=True)
    assert "had already ended" in answer.content.decode()


def test_bundle_holds_the_commits(page: Client, alice: User, tmp_path: Path) -> None:
    task = completed_task(alice)
    page.force_login(alice)
    assert page.get(f"/tasks/{task.pk}/bundle/").status_code == 404
    base, head = make_store(store_path(task.pk), tmp_path / "work")
    Task.objects.filter(pk=task.pk).update(base_commit=base, head_commit=head)
    answer = page.get(f"/tasks/{task.pk}/bundle/")
    assert answer.status_code == 200
    (tmp_path / "task.bundle").write_bytes(answer.content)
    heads = run_git(tmp_path, "bundle", "list-heads", "task.bundle")
    assert heads.split() == [head, f"refs/heads/asynccoder/{str(task.pk)[:8]}"]


def test_running_task_shows_its_changes_so_far(page: Client, alice: User, tmp_path: Path) -> None:
    task = running_task(alice)
    base, head = make_store(store_path(task.pk), tmp_path / "work")
    Task.objects.filter(pk=task.pk).update(base_commit=base, head_commit=head)
    text = seen(page, alice, f"/tasks/{task.pk}/")
    assert "so far" in text
    assert '<td class="code" hx-disable>second</td>' in text


def run_git(folder: Path, *arguments: str) -> str:
    call = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments]
    return subprocess.run(call, cwd=folder, check=True, capture_output=True, text=True).stdout


def make_store(store: Path, work: Path) -> tuple[str, str]:
    """Make a store with two commits; return their names."""
    work.mkdir()
    run_git(work, "init", "-q")
    commits = []
    for text in ("first\n", "first\nsecond\n"):
        (work / "a.txt").write_text(text)
        run_git(work, "add", "-A")
        run_git(work, "commit", "-q", "-m", "x")
        commits.append(run_git(work, "rev-parse", "HEAD").strip())
    run_git(work, "clone", "-q", "--bare", str(work), str(store))
    return commits[0], commits[1]


def test_refusals_are_pages_of_ours(page: Client, alice: User, mallory: User, victor: User) -> None:
    page.force_login(mallory)
    missing = page.get(f"/tasks/{running_task(alice).pk}/")
    assert missing.status_code == 404
    assert "There is nothing here" in missing.content.decode()
    page.force_login(victor)
    refused = page.get("/tasks/new/")
    assert refused.status_code == 403
    assert "You may look, not act" in refused.content.decode()
