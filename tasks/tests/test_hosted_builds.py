"""A build of a new project, and the next one upon it, in a real worker."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.models import User
from asynccoder.tests.processes import Process
from tasks.models import Task
from tasks.tests.world import bash, build_world, finish

pytestmark = pytest.mark.django_db(transaction=True)
TEST = "def test_it():\n    assert open('app.txt').read()\n"
WRITE = bash(f"printf 'one\\n' > app.txt && cat > test_app.py <<'END'\n{TEST}END")
EXTEND = bash("test -f test_app.py && printf 'two\\n' >> app.txt")


@pytest.fixture(autouse=True)
def _keys(settings: Any) -> None:
    settings.OPENAI_API_KEY = "sk-platform-key"


def files_of(answer: Any) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content))) as found:
        return {name: found.read(name).decode() for name in found.namelist() if name[-1] != "/"}


def test_a_second_build_goes_on_where_the_first_ended(
    alice: User,
    alice_api: APIClient,
    worker_process: Callable[..., Process],
    tmp_path: Path,
) -> None:
    script = [WRITE, *finish(), EXTEND, *finish()]
    with build_world(alice, script, worker_process, tmp_path / "elsewhere") as world:
        world.worker()
        for goal in ("Write it", "Extend it"):
            body = {"project_name": "shop", "goal": goal, "model": "scripted"}
            made = alice_api.post("/api/build/", body).json()
            task = world.finished(Task.objects.get(pk=made["task_id"]))
            assert (task.status, task.error_message) == ("completed", "")
            assert (task.result_branch, task.is_pushed) == ("main", True)
        shown = alice_api.get(f"/api/build/{task.pk}").json()
    assert shown["project_name"] == "shop"
    assert shown["results"]["generated_files"] == ["app.txt"]
    assert shown["results"]["tests_passed"] == 1
    repository = alice_api.get(f"/api/v1/repositories/{task.repository_id}").json()
    assert repository["kind"] == "hosted"
    files = files_of(alice_api.get(repository["zip_url"]))
    assert files == {"shop/app.txt": "one\ntwo\n", "shop/test_app.py": TEST}
    assert Task.objects.filter(repository=task.repository).count() == 2
