"""What the process of a run writes to the log names its task."""

from __future__ import annotations

import contextvars
import logging
import uuid

import pytest

from asynccoder.lib import logs
from tasks import runner


@pytest.mark.django_db(transaction=True)
def test_each_line_of_a_run_names_its_task(caplog: pytest.LogCaptureFixture) -> None:
    task_id = str(uuid.uuid4())

    def run() -> str:
        logs.request_id.set("")
        runner.run_in_child(task_id, 1, lambda: False)
        return logs.Text().format(logging.makeLogRecord({"msg": "at work"}))

    assert contextvars.copy_context().run(run).endswith(f"at work task_id={task_id}")
    assert logs.task_id.get() == ""
