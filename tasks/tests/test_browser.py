"""The pages in a real browser, served by daphne with the content policy on."""

from __future__ import annotations

import pytest

from accounts.models import User
from asynccoder.tests.processes import wait_for
from tasks import events
from tasks.events import Event
from tasks.models import Status, Task, TaskResult
from tasks.tests.browsing import OpenVisit, Visit, chromium, visit
from tasks.tests.hostile import PAYLOADS
from tasks.tests.make import make_log, make_model, make_repository, make_step, make_task
from tasks.tests.story import (
    PLAN,
    answered_task,
    completed_task,
    end,
    failed_task,
    running_task,
)  # fmt: skip

__all__ = ["chromium", "visit"]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.timeout(600),
]

SIZES = [(1440, "light"), (1440, "dark"), (360, "light"), (360, "dark")]


@pytest.mark.parametrize(("width", "theme"), SIZES)
def test_every_page_looks_right(alice: User, visit: OpenVisit, width: int, theme: str) -> None:
    make_model()
    done = completed_task(alice)
    failed = failed_task(alice)
    running = running_task(alice)
    asked = answered_task(alice, "VAT is set in `vat.py:12`.\n\n- once\n- per country\n")
    guest = visit(width=width, color_scheme=theme)
    guest.go("/sign-in/")
    guest.picture("sign-in")
    guest.assert_calm()
    page = visit(alice, width=width, color_scheme=theme)
    paths = {
        "home": "/", "list": "/tasks/", "new": "/tasks/new/", "done": f"/tasks/{done.pk}/",
        "changes": f"/tasks/{done.pk}/?tab=changes", "checks": f"/tasks/{done.pk}/?tab=checks",
        "cost": f"/tasks/{done.pk}/?tab=cost", "failed": f"/tasks/{failed.pk}/",
        "answer": f"/tasks/{asked.pk}/?tab=result", "cancel": f"/tasks/{running.pk}/cancel/",
        "step": f"/tasks/{done.pk}/steps/2/",
    }  # fmt: skip
    for name, path in paths.items():
        page.go(path)
        page.picture(name)
        page.assert_calm()
    page.go(f"/tasks/{running.pk}/")
    page.see("Live ·", selector="#live-text")
    page.picture("running")
    page.assert_calm()


def test_sign_in_and_start_a_task_with_the_keyboard(alice: User, visit: OpenVisit) -> None:
    make_model()
    repository = make_repository(owner=alice)
    page = visit()
    page.go("/tasks/new/")
    page.run(lambda p: p.get_by_label("E-mail address or user name").focus())
    page.run(lambda p: p.keyboard.type("alice"))
    page.run(lambda p: p.locator("input[type=password]").fill("correct horse battery"))
    page.run(lambda p: p.keyboard.press("Enter"))
    page.see("New task", selector="h1")
    page.run(lambda p: p.locator("#id_prompt").fill("Where is VAT set?"))
    page.run(lambda p: p.get_by_role("radio", name="Ask").check())
    page.run(lambda p: p.locator("#id_repository").select_option(str(repository.pk)))
    page.run(lambda p: p.get_by_role("button", name="Start").press("Enter"))
    wait_for(lambda: Task.objects.exists(), what="the task is created")
    page.see("Where is VAT set?", selector="h1")
    assert Task.objects.get().type == "ask"
    page.assert_calm()


def see_rows(page: Visit, numbers: range) -> None:
    """Wait until the rows on the page cover these sequence numbers, each once and in order."""

    def covered() -> list[int]:
        spans = page.evaluate(
            "[...document.querySelectorAll('#rows > li')]"
            ".map(li => [+li.dataset.from, +li.dataset.seq])"
        )
        return [number for first, last in spans for number in range(first, last + 1)]

    wait_for(lambda: covered() == [*numbers], what=f"rows {numbers} are there")


def test_rows_come_without_reload_and_the_end_is_shown(alice: User, visit: OpenVisit) -> None:
    task = make_task(owner=alice, status=Status.RUNNING, title="Fix rounding")
    page = visit(alice)
    page.go(f"/tasks/{task.pk}/")
    page.see("Live ·", selector="#live-text")
    events.append(task.pk, Event("log.written", "The first line"))
    page.see("The first line", selector="#rows")
    events.append(task.pk, Event("task.plan_changed", data={"plan": PLAN}), plan=PLAN)
    page.see("Round once, at the total", selector="#plan")
    events.append(
        task.pk, Event("task.progressed", data={"progress": 41, "step": "Look"}), progress=41
    )
    page.wait("document.title.startsWith('41 %')")
    task.refresh_from_db()
    TaskResult.objects.create(task=task, kind="code_changes", summary="All lines **add up**.")
    end(task, Status.COMPLETED, outcome="done", progress=100)
    events.append(task.pk, Event("task.completed"))
    page.see("All lines add up.", selector="#result")
    page.see("Completed", selector="#facts")
    page.see("Ended", selector="#live-text")
    page.wait("document.title.startsWith('Completed')")
    see_rows(page, range(1, 5))
    page.assert_calm()


def test_streamed_text_is_seen_at_once_and_then_settles(alice: User, visit: OpenVisit) -> None:
    task = make_task(owner=alice, status=Status.RUNNING)
    data = {"ordinal": 1, "kind": "model_call", "name": "model", "summary": "The model thinks"}
    make_step(task, kind="model_call", name="model", state="started")
    page = visit(alice)
    page.go(f"/tasks/{task.pk}/")
    page.see("Live ·", selector="#live-text")
    events.append(task.pk, Event("step.started", data=data))
    for piece in ("The total is <b>rounded</b>", " twice,", " I think."):
        events.append(task.pk, Event("model.text", data={"text": piece}))
    page.see("The total is <b>rounded</b> twice, I think.", selector="#feed p")
    events.append(task.pk, Event("step.finished", data=data | {"output_tokens": 7}))
    page.see("The total is <b>rounded</b> twice, I think.", selector="#rows p")
    page.wait("document.getElementById('rows').lastElementChild.dataset.seq === '5'")
    page.wait("document.getElementById('tail').hidden")  # Painted with the next frame.
    page.wait("document.getElementById('rows').innerText.split('rounded').length === 2")
    see_rows(page, range(1, 6))
    page.assert_calm()


def test_line_that_is_cut_is_told_and_nothing_is_lost(alice: User, visit: OpenVisit) -> None:
    task = make_task(owner=alice, status=Status.RUNNING)
    page = visit(alice)
    page.run(lambda p: p.add_init_script(CUTTER))
    page.go(f"/tasks/{task.pk}/")
    page.see("Live ·", selector="#live-text")
    for number in range(10):
        page.evaluate("window.__sockets.at(-1).close()")
        events.append(task.pk, Event("log.written", f"line {number}"))
        page.wait(f"window.__sockets.length === {number + 2}")
        page.see("Live ·", selector="#live-text")
    page.see("line 9", selector="#rows")
    see_rows(page, range(1, 11))
    page.evaluate("window.__refuse = true; window.__sockets.at(-1).close()")
    page.see("Line lost", selector="#live-text")
    page.wait("document.getElementById('live').dataset.state === 'reconnecting'")
    events.append(task.pk, Event("log.written", "by polling"))
    page.see("by polling", selector="#rows")
    page.run(lambda p: p.get_by_role("button", name="Try now").wait_for())
    # In one go: the line that tries again by itself would take the button away.
    page.evaluate("window.__refuse = false; document.getElementById('live-now').click()")
    page.see("Live ·", selector="#live-text")
    see_rows(page, range(1, 12))
    page.assert_calm()


# Keeps the page's sockets, and refuses new ones while told to.
CUTTER = """
window.__sockets = []; const Real = WebSocket;
window.WebSocket = class extends Real {
  constructor(url) {
    super(url);
    window.__sockets.push(this);
    if (window.__refuse) setTimeout(() => this.close());
  }
};
"""


def test_reader_in_the_middle_keeps_the_place(alice: User, visit: OpenVisit) -> None:
    task = make_task(owner=alice, status=Status.RUNNING)
    for number in range(80):
        make_log(task, message=f"line {number}")
    page = visit(alice)
    page.go(f"/tasks/{task.pk}/")
    page.see("Live ·", selector="#live-text")
    page.wait("feed.scrollTop > 500")
    page.evaluate("feed.scrollTop = 100")
    page.wait("feed.scrollTop === 100")
    events.append(task.pk, Event("log.written", "something new"))
    page.see("1 new", selector="#latest")
    assert page.evaluate("feed.scrollTop") == 100
    page.run(lambda p: p.keyboard.press("."))
    page.wait("feed.scrollHeight - feed.scrollTop - feed.clientHeight < 2")
    page.wait("document.getElementById('latest').hidden")


def test_earlier_rows_come_on_request(alice: User, visit: OpenVisit) -> None:
    task = make_task(owner=alice)
    for number in range(350):
        make_log(task, message=f"line {number}")
    page = visit(alice)
    page.go(f"/tasks/{task.pk}/")
    page.run(lambda p: p.get_by_role("button", name="Show earlier").click())
    page.wait("document.querySelector('#rows > li').dataset.from === '1'")
    see_rows(page, range(1, 351))


def test_folded_file_opens_in_place(alice: User, visit: OpenVisit) -> None:
    lines = "".join(f"+x = {number}\n" for number in range(900))
    diff = f"diff --git a/big.py b/big.py\n--- /dev/null\n+++ b/big.py\n@@ -0,0 +1,900 @@\n{lines}"
    task = make_task(owner=alice)
    TaskResult.objects.create(task=task, kind="code_changes", diff=diff)
    end(task, Status.COMPLETED)
    page = visit(alice)
    page.go(f"/tasks/{task.pk}/?tab=changes")
    page.see("900 changed lines")
    page.run(lambda p: p.get_by_role("link", name="Show this file").click())
    page.wait("document.querySelectorAll('.diff tr.add').length === 900")
    page.assert_calm()


def test_list_redraws_a_task_in_its_place(alice: User, visit: OpenVisit) -> None:
    task = running_task(alice)
    page = visit(alice)
    page.go("/tasks/")
    page.wait("document.querySelector('[data-task]') !== null")
    # The feed begins where the socket joins: ring until the row has changed.
    end(task, Status.COMPLETED, progress=100)

    def ring() -> bool:
        events.announce_status(Task.objects.get(pk=task.pk))
        return "Completed" in page.text("[data-task]")

    wait_for(ring, what="the row says Completed")
    page.assert_calm()


def test_hostile_text_stays_text_everywhere(alice: User, visit: OpenVisit) -> None:
    everything = "\n\n".join(PAYLOADS)
    clean = everything.replace("\x00", "")  # PostgreSQL keeps no NUL.
    task = running_task(alice, title=PAYLOADS[3], prompt=clean, current_step=PAYLOADS[5])
    plan = [{"title": payload, "status": "in_progress"} for payload in PAYLOADS[:9]]
    Task.objects.filter(pk=task.pk).update(plan=plan, branch=PAYLOADS[6][:200])
    diff = "".join(
        f"diff --git a/{name} b/{name}\n--- a/{name}\n+++ b/{name}\n@@ -1 +1,2 @@ {name}\n-{name}\n+{name}!\n"
        for name in (payload.replace("\n", " ").replace("\x00", "") for payload in PAYLOADS[:20])
    )
    other = completed_task(alice, title=PAYLOADS[0])
    TaskResult.objects.filter(task=other).update(diff=diff, content=clean, summary=clean)
    page = visit(alice)
    for path in (
        "/", "/tasks/", f"/tasks/{task.pk}/", f"/tasks/{other.pk}/", f"/tasks/{other.pk}/?tab=changes",
        f"/tasks/{other.pk}/?tab=checks", f"/tasks/{other.pk}/?tab=cost", f"/tasks/{task.pk}/cancel/",
    ):  # fmt: skip
        page.go(path)
        page.assert_calm()
    page.go(f"/tasks/{task.pk}/")
    page.see("Live ·", selector="#live-text")
    for payload in PAYLOADS:
        text = payload.replace("\x00", "")
        events.append(task.pk, Event("model.text", data={"text": text}))
        events.append(task.pk, Event("log.written", text))
        named = {"ordinal": 1, "kind": "tool_call", "name": text, "summary": text, "output": text}
        events.append(task.pk, Event("step.finished", data=named))
    last = Task.objects.get(pk=task.pk).event_sequence
    page.wait(f"+document.getElementById('rows').lastElementChild.dataset.seq === {last}")
    page.assert_calm()


def test_browser_would_notice_hostile_text(alice: User, visit: OpenVisit) -> None:
    """The control: what the test above looks for is found where it happens."""
    page = visit(alice)
    page.go("/")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"1\">')")
    page.evaluate("window.__hit = 1")
    with pytest.raises(AssertionError):
        page.assert_calm()
    wait_for(lambda: any("CSP" in line or "Content Security" in line for line in page.trouble))


def test_pages_work_without_javascript(alice: User, visit: OpenVisit) -> None:
    task = completed_task(alice)
    running = running_task(alice)
    page = visit(alice, java_script_enabled=False)
    page.go(f"/tasks/{running.pk}/")
    page.see("Not live.")
    page.see("Ran pytest -k total")
    page.run(lambda p: p.get_by_role("link", name="Cancel").click())
    page.run(lambda p: p.get_by_role("button", name="Cancel the task").click())
    page.see("Cancelling")
    page.go(f"/tasks/{task.pk}/")
    page.run(lambda p: p.locator(".wtabs").get_by_role("link", name="Changes").click())
    page.see("to_cents", selector=".diff")
    assert page.trouble == []
