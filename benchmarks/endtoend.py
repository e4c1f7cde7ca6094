"""Z: from a POST to the first request that reaches the model server, with worker and mirror warm.

The task is created over HTTP at daphne with an access key, as a client does.
"""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
import time
from pathlib import Path

from asynccoder.tests.processes import answers, free_port, wait_for
from benchmarks import fake_model, tracing
from benchmarks.fake_model import Script
from benchmarks.generated import make_repository
from benchmarks.instance import Instance, open_instance
from benchmarks.report import Series, judge_figure
from benchmarks.tracing import Span, Window

GOAL_MS = 300.0


def run(*, quick: bool, rounds: int) -> bool:
    count = 2 if quick else 10
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-endtoend-") as name,
        fake_model.running() as fake,
    ):
        Path(name).chmod(0o755)
        size = {"files": 50, "commits": 3} if quick else {"files": 2000, "commits": 50}
        repository = make_repository(Path(name, "repository.git"), **size)
        with open_instance(fake, repository) as instance:
            if not quick:
                instance.wait_until_warm()
            client = Client(instance)
            accepted = Series("endtoend", "POST accepted to first model request")
            sent = Series("endtoend", "POST sent to first model request")
            claimed = Series("endtoend", "claimed to first model request")
            for number in range(rounds + 1):
                print(f"endtoend: round {number}/{rounds}", file=sys.stderr, flush=True)
                measured = [client.measure() for _ in range(count)]
                if number:
                    for series, values in zip(
                        (accepted, sent, claimed), zip(*measured, strict=True), strict=True
                    ):
                        series.rounds.append(list(values))
    for series in (accepted, sent, claimed):
        series.print()
    return judge_figure("POST accepted to first model request, p50", accepted.p(0.5), goal=GOAL_MS)


def profile(*, quick: bool) -> None:
    """Print where the time goes between the claim and the first request, and in the claim."""
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-endtoend-") as name,
        fake_model.running() as fake,
    ):
        Path(name).chmod(0o755)
        repository = make_repository(Path(name, "repository.git"), files=2000, commits=50)
        with open_instance(fake, repository, is_traced=True) as instance:
            if not quick:
                instance.wait_until_warm()
            client = Client(instance)
            firsts = []
            for _ in range(3 if quick else 20):
                client.measure()
                firsts.append(fake.stamps()[0].begin)
            spans = instance.spans()
    # The first one is the only one that builds the base tree.
    windows = [_until(span, firsts) for span in spans if span.name == "run"][1:]
    tracing.print_profile("endtoend", "process to first model request", spans, windows)
    claims = [(span.pid, span.begin, span.end) for span in spans if _has_won(span, spans)]
    tracing.print_profile("endtoend", "claim", spans, claims[1:])


def _until(run: Span, firsts: list[float]) -> Window:
    return run.pid, run.begin, next(first for first in firsts if run.begin < first < run.end)


def _has_won(span: Span, spans: list[Span]) -> bool:
    """Tell whether a claim has written the event of one that was won."""
    return span.name == "claim" and any(
        one.pid == span.pid and one.detail == "INSERT tasks_tasklog"
        for one in spans
        if span.begin < one.begin < span.end
    )


class Client:
    """A client of the platform's web server."""

    def __init__(self, instance: Instance) -> None:
        from accounts import keys

        self.instance = instance
        _, self.key = keys.create(user=instance.owner, name="benchmark")
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        daphne = instance.stage.start(
            "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port),
            "asynccoder.asgi:application", PORT=str(port), PUBLIC_URL=url,
        )  # fmt: skip
        wait_for(
            lambda: answers(f"{url}/health") or daphne.popen.poll() is not None,
            seconds=60, what="daphne answers",
        )  # fmt: skip
        self.line = http.client.HTTPConnection("127.0.0.1", port)

    def measure(self) -> tuple[float, float, float]:
        """Return ms to the first model request from: accepted, sent, claimed."""
        from tasks.models import Task

        fake, repository, model = self.instance.fake, self.instance.repository, self.instance.model
        fake.play(Script(0))
        wanted = {"type": "debug", "prompt": "Make it so."}
        wanted |= {"repository_id": str(repository.pk), "model": model.name}
        headers = {"Content-Type": "application/json", "X-API-Key": self.key}
        sent = time.time()
        self.line.request("POST", "/api/v1/tasks/", json.dumps(wanted), headers)
        response = self.line.getresponse()
        said = response.read()
        accepted = time.time()
        if response.status != 201:
            raise RuntimeError(f"{response.status}: {said[:500]!r}")
        first = fake.wait_for(1)[0].wall
        task = Task.objects.get(pk=json.loads(said)["id"])
        self.instance.wait_for_end(task)
        claimed = task.log.get(kind="task.started").created_at.timestamp()
        return 1000 * (first - accepted), 1000 * (first - sent), 1000 * (first - claimed)
