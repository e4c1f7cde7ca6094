"""Does a refused sign-in tell by its time whether the account exists? (reliability.md 2.9)

The same wrong password is sent for an account and for an address that nobody has, in turns. The
yardstick of one is the other: the medians may differ by 5 ms, and the Mann-Whitney test must not
tell the two apart (p > 0.01, two-sided, by the normal approximation).
"""

from __future__ import annotations

import http.client
import json
import math
import os
import time

from asynccoder.tests.processes import answers, free_port, wait_for
from benchmarks.report import Series, judge_figure
from campaigns.stage import Stage, open_stage

KNOWN, UNKNOWN = "known@example.com", "nobody@example.com"
APART_MS = 5.0
LARGEST_Z = 2.576
"""Of the normal distribution: p = 0.01, two-sided."""


def run(*, quick: bool, rounds: int) -> bool:
    count = 5 if quick else max(1, 500 // rounds)
    with open_stage(
        database=os.environ.get("TEST_DATABASE_URL", ""),
        redis_url=os.environ.get("TEST_REDIS_URL", ""),
        environment={"RATELIMIT_ENABLE": "false", "LOG_LEVEL": "WARNING"},
    ) as stage:
        from accounts.models import User

        User.objects.create_user(username="known", email=KNOWN, password="correct horse battery")
        line = _server(stage)
        series = {name: Series("signin", name) for name in ("an account", "no account")}
        for number in range(rounds + 1):
            pairs = [(_refused(line, KNOWN), _refused(line, UNKNOWN)) for _ in range(count)]
            if number:
                for one, values in zip(series.values(), zip(*pairs, strict=True), strict=True):
                    one.rounds.append(list(values))
    for one in series.values():
        one.print()
    known, unknown = (
        [value for values in one.rounds for value in values] for one in series.values()
    )
    apart = abs(series["an account"].p(0.5) - series["no account"].p(0.5))
    return all(
        [
            judge_figure("medians apart", apart, goal=APART_MS),
            judge_figure("Mann-Whitney |z|", abs(z_of(known, unknown)), goal=LARGEST_Z, unit=""),
        ]
    )


def z_of(one: list[float], other: list[float]) -> float:
    """Return the standard score of Mann and Whitney's U; 0 where neither tends to be larger."""
    ranked = sorted([(value, True) for value in one] + [(value, False) for value in other])
    rank_sum = sum(rank for rank, (_, is_one) in enumerate(ranked, 1) if is_one)
    m, n = len(one), len(other)
    u = rank_sum - m * (m + 1) / 2
    return (u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)


def _server(stage: Stage) -> http.client.HTTPConnection:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    stage.start(
        "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port),
        "asynccoder.asgi:application", PORT=str(port), PUBLIC_URL=url,
    )  # fmt: skip
    wait_for(lambda: answers(f"{url}/health"), seconds=60, what="daphne answers")
    return http.client.HTTPConnection("127.0.0.1", port)


def _refused(line: http.client.HTTPConnection, email: str) -> float:
    """Return how many ms a refusal takes."""
    body = json.dumps({"email": email, "password": "a wrong password"})
    begun = time.perf_counter()
    line.request("POST", "/api/v1/auth/login", body, {"Content-Type": "application/json"})
    response = line.getresponse()
    said = response.read()
    took = time.perf_counter() - begun
    if response.status != 401:
        raise RuntimeError(f"{response.status}: {said[:500]!r}")
    return 1000 * took
