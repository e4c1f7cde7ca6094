"""A task with a whole history, for the tests of its pages: log, steps, checks, diff and cost."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from accounts.models import User
from tasks.models import Check, Status, Step, Task, TaskResult, TaskType
from tasks.tests.make import make_log, make_step, make_task

DIFF = '''diff --git a/billing/invoice.py b/billing/invoice.py
index 1111111..2222222 100644
--- a/billing/invoice.py
+++ b/billing/invoice.py
@@ -40,6 +40,8 @@ class Invoice:
     @property
     def total(self) -> Decimal:
-        return sum(round(line.amount, 2) for line in self.lines)
+        exact = sum((line.amount for line in self.lines), Decimal(0))
+        return to_cents(exact, self.currency)
\x20
     def shares(self) -> list[Decimal]:
-        return [round(line.amount, 2) for line in self.lines]
+        """Spread the rounding difference over the largest lines."""
+        return split_cents(self.total, [line.amount for line in self.lines])
diff --git a/tests/test_invoice.py b/tests/test_invoice.py
new file mode 100644
index 0000000..3333333
--- /dev/null
+++ b/tests/test_invoice.py
@@ -0,0 +1,3 @@
+def test_total_is_rounded_once() -> None:
+    invoice = make_invoice("0.105", "0.105")
+    assert invoice.total == Decimal("0.21")
'''
PLAN = [
    {"title": "Read the invoice code and its tests", "status": "done"},
    {"title": "Reproduce the difference of one cent", "status": "done"},
    {"title": "Round once, at the total; keep lines exact", "status": "in_progress"},
    {"title": "Run the repository's checks and hand back", "status": "pending"},
]
OUTPUT = (
    "\x1b[2mtests/test_invoice.py\x1b[0m \x1b[32m....\x1b[31mF\x1b[0m\n"
    "\x1b[31mE   AssertionError: Decimal('30.01') != Decimal('30.00')\x1b[0m\n"
    "\x1b[1;33m1 failed\x1b[0m, \x1b[32m4 passed\x1b[0m in 1.32s\n"
)


def running_task(owner: User, **values: Any) -> Task:
    """Return a task in the middle of its run: a plan, a failed command, streamed text."""
    defaults: dict[str, Any] = {
        "title": "Fix rounding in invoice totals",
        "prompt": "Invoice totals are off by one cent for some customers. Find the cause, fix it, "
        "add a regression test.",
        "status": Status.RUNNING,
        "progress": 62,
        "current_step": "Round once, at the total",
        "branch": "main",
        "lease_owner": "worker-1",
        "started_at": timezone.now() - timedelta(minutes=3),
        "cap_microcredits": 200_000_000,
        "plan": PLAN,
    }
    task = make_task(owner=owner, **(defaults | values))
    make_log(task, kind="task.created", message="Task created")
    make_log(task, kind="task.started", data={"attempt": 1})
    make_log(task, kind="task.plan_changed", data={"plan": PLAN})
    add_call(task, text="Each line is rounded and then summed; the total is rounded once.")
    add_command(task, "Ran pytest -k total", output=OUTPUT, exit_code=1)
    make_log(
        task,
        kind="check.finished",
        data={"phase": "before", "command": "pytest", "verdict": "failed", "exit_code": 1},
    )
    add_command(task, "Edited billing/invoice.py", name="edit")
    make_log(task, kind="checkpoint.made", data={"commit": "a1b2c3d4e5f6", "files": 2})
    make_log(task, kind="task.progressed", data={"progress": 62, "step": "Round once"})
    Check.objects.create(
        task=task, phase="before", command="pytest", verdict="failed", exit_code=1, seconds=1.9,
        commit="9f2c1e0", output=OUTPUT,
    )  # fmt: skip
    return task


def completed_task(owner: User, **values: Any) -> Task:
    task = running_task(owner, **values)
    Check.objects.create(
        task=task, phase="after", command="pytest", verdict="passed", exit_code=0, seconds=1.7,
        commit="b7c8d9e", output="5 passed in 1.28s\n",
    )  # fmt: skip
    TaskResult.objects.create(
        task=task, kind=TaskResult.Kind.CODE_CHANGES, diff=DIFF,
        summary="Lines are kept exact; the total is rounded **once**, by `to_cents`.",
        files=[
            {"path": "billing/invoice.py", "status": "modified", "added": 4, "removed": 2},
            {"path": "tests/test_invoice.py", "status": "added", "added": 3, "removed": 0},
        ],
    )  # fmt: skip
    end(task, Status.COMPLETED, outcome="done", progress=100)
    make_log(task, kind="task.completed", message="The task is done.", data={"outcome": "done"})
    return task


def failed_task(owner: User, **values: Any) -> Task:
    task = running_task(owner, **values)
    message = "The tests need the network: pip could not reach a package index."
    end(task, Status.FAILED, error_code="setup_failed", error_message=message)
    make_log(
        task, kind="task.failed", level="error", message=message, data={"error_message": message}
    )
    return task


def answered_task(owner: User, content: str, **values: Any) -> Task:
    task = make_task(owner=owner, type=TaskType.ASK, title="Where is VAT set?", **values)
    make_log(task, kind="task.created")
    TaskResult.objects.create(task=task, kind=TaskResult.Kind.ANSWER, content=content)
    end(task, Status.COMPLETED, outcome="done", progress=100)
    make_log(task, kind="task.completed", data={"outcome": "done"})
    return task


def end(task: Task, status: Status, **values: Any) -> None:
    values = {"status": status, "completed_at": timezone.now(), "lease_owner": ""} | values
    Task.objects.filter(pk=task.pk).update(**values)
    task.refresh_from_db()


def add_call(task: Task, *, text: str, cost: int = 4_200_000) -> Step:
    """Add a model call whose text was streamed in two pieces."""
    tokens = {"input_tokens": 41_000, "cached_tokens": 38_000, "output_tokens": 612}
    step = make_step(
        task, kind="model_call", name="model", summary=text[:80], cost_microcredits=cost,
        started_at=timezone.now() - timedelta(seconds=4), finished_at=timezone.now(), **tokens,
    )  # fmt: skip
    named = {"ordinal": step.ordinal, "kind": "model_call", "name": "model"}
    make_log(task, kind="step.started", data=named | {"summary": "The model thinks"})
    for piece in (text[:20], text[20:]):
        make_log(task, kind="model.text", data={"text": piece})
    make_log(
        task, kind="step.finished",
        data=named | tokens | {"summary": step.summary, "cost_microcredits": cost},
    )  # fmt: skip
    Task.objects.filter(pk=task.pk).update(
        charged_microcredits=task.charged_microcredits + cost,
        input_tokens=task.input_tokens + 41_000,
    )
    task.refresh_from_db()
    return step


def add_command(
    task: Task, summary: str, *, name: str = "bash", output: str = "", exit_code: int | None = None
) -> Step:
    step = make_step(
        task, name=name, summary=summary, exit_code=exit_code,
        started_at=timezone.now() - timedelta(seconds=1.9), finished_at=timezone.now(),
        input='{"command": "pytest -k total"}',
    )  # fmt: skip
    named = {"ordinal": step.ordinal, "kind": "tool_call", "name": name, "summary": summary}
    make_log(task, kind="step.started", data=named)
    make_log(task, kind="step.finished", data=named | {"exit_code": exit_code, "output": output})
    return step
