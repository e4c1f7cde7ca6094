"""Nobody spends a credit twice: many spenders at once, races for one task, and an oracle."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any

from django.db import connection

from accounts import tokens
from accounts.models import User
from aimodels.models import AIModel
from asynccoder.tests.processes import answers, free_port, wait_for
from billing import ledger
from billing.models import LedgerEntry
from campaigns import oracle, races
from campaigns.crowd import Crowd
from campaigns.report import Report
from campaigns.stage import Stage
from tasks import lifecycle
from tasks.lifecycle import TaskRequest
from tasks.models import Task, TaskLog, TaskType
from tasks.tests.make import make_model
from tasks.tests.world import PRICE

CREATES, PAID_FOR = 50, 10
THREADS = 200
SPARE_CONNECTIONS = 30
REFUSED = "402 INSUFFICIENT_CREDITS"


@dataclass(frozen=True)
class Sizes:
    """How much of each; ``count`` on the command line is the number of races to an end."""

    endings: int
    claims: int
    operations: int
    """Of each thread on the ledger."""
    oracle: int

    @classmethod
    def of(cls, count: int) -> Sizes:
        return cls(count, min(count, 1_000), min(-(-count // 20), 50), min(10 * count, 20_000))


def run(stage: Stage, *, count: int, seed: int) -> Report:
    """Play every part; ``count`` is the number of races between a cancellation and another end."""
    sizes = Sizes.of(count)
    report = Report("Credits under fire", ["attack", "tries", "outcome"])
    model = make_model(
        provider="openai", name="priced", display_name="Priced", input_price=PRICE,
        output_price=PRICE, cached_input_price=PRICE, context_window=100_000,
    )  # fmt: skip
    # The crowd's processes are started before this one has threads.
    with Crowd(3) as crowd:
        create_over_http(stage, report, model)
        create_in_crowd(stage, crowd, report, model)
        use_ledger(stage, crowd, report, sizes, seed)
        race(stage, crowd, report, sizes)
    ask_oracle(report, sizes, seed)
    report.facts["database"] = "PostgreSQL" if stage.is_postgres else "SQLite"
    return report


# --- ten of fifty ------------------------------------------------------------------------------


def buyer(name: str, model: AIModel) -> User:
    """Return a user who can pay for exactly PAID_FOR tasks."""
    user = races.make_user(name)
    price = lifecycle.estimate(user, model, wish(model))
    ledger.grant(user_id=user.pk, microcredits=PAID_FOR * price, reference=f"ten:{user.pk}")
    return user


def wish(model: AIModel) -> TaskRequest:
    return TaskRequest(type=TaskType.BUILD, prompt="Build it.", model=model)


def create_over_http(stage: Stage, report: Report, model: AIModel) -> None:
    """Send fifty requests at once to two web servers."""
    user = buyer("over-http", model)
    urls = [serve(stage) for _ in range(2)]
    token = tokens.begin(user).access
    body = {"type": "build", "prompt": "Build it.", "model_id": str(model.pk)}
    barrier = Barrier(CREATES)

    def post(number: int) -> str:
        barrier.wait()
        return answer_of(f"{urls[number % 2]}/api/v1/tasks", token, body)

    with ThreadPoolExecutor(CREATES) as pool:
        told = list(pool.map(post, range(CREATES)))
    report.losses += spending_faults(user, told, accepted="201")
    report.add(f"{CREATES} creates over HTTP on credits for {PAID_FOR}", CREATES, counted(told))


def serve(stage: Stage) -> str:
    """Start a web server and return its address."""
    port = free_port()
    url = f"http://localhost:{port}"
    daphne = stage.start(
        "-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port), "asynccoder.asgi:application",
        PORT=str(port), PUBLIC_URL=url,
    )  # fmt: skip
    wait_for(
        lambda: answers(f"{url}/api/health/live") or daphne.popen.poll() is not None,
        seconds=60,
        what="daphne answers",
    )
    return url


def answer_of(url: str, token: str, body: dict[str, Any]) -> str:
    """Return the status of a POST, with the error's code where there is one."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        code = json.loads(error.read())
        return f"{error.code} {find_code(code)}"


def find_code(body: dict[str, Any]) -> str:
    """Return an error's code in either dialect."""
    error = body.get("error", body)
    return str((error if isinstance(error, dict) else body).get("code", error))


def create_in_crowd(stage: Stage, crowd: Crowd, report: Report, model: AIModel) -> None:
    """Call the verb itself from threads of several processes: nothing puts them in a row."""
    user = buyer("in-crowd", model)
    told = crowd.at_once(create, [str(user.pk)] * CREATES, threads=threads_for(stage, CREATES))
    told = [REFUSED if line.startswith("OutOfCredit:") else line for line in told]
    report.losses += spending_faults(user, told, accepted="201")
    report.add(f"{CREATES} creates by the verb on credits for {PAID_FOR}", CREATES, counted(told))


def create(user_id: str) -> str:
    owner = User.objects.get(pk=user_id)
    lifecycle.create_task(owner=owner, request=wish(AIModel.objects.get(name="priced")), ring=False)
    return "201"


def spending_faults(user: User, told: Sequence[str], *, accepted: str) -> list[str]:
    """Return what is not as ten of fifty must be: answers, tasks, balance and books."""
    found = []
    if Counter(told) != {accepted: PAID_FOR, REFUSED: CREATES - PAID_FOR}:
        found.append(f"{user}: {counted(told)}")
    tasks = Task.objects.filter(owner=user).count()
    if tasks != PAID_FOR:
        found.append(f"{user}: {tasks} tasks for credits for {PAID_FOR}")
    if ledger.balance(user.pk).balance:
        found.append(f"{user}: {ledger.balance(user.pk).balance} microcredits are left of nothing")
    return found + races.books_faults(user)


def counted(told: Sequence[str]) -> str:
    return ", ".join(f"{times} times {line}" for line, times in sorted(Counter(told).items()))


# --- the ledger --------------------------------------------------------------------------------


def use_ledger(stage: Stage, crowd: Crowd, report: Report, sizes: Sizes, seed: int) -> None:
    """Move money on many threads of all processes, every third time by a repeated message."""
    users = [races.make_user(f"payer-{number}", credits=5) for number in range(4)]
    threads = threads_for(stage, THREADS)
    todo = races.operations(users, threads * sizes.operations, seed)
    told = crowd.at_once(races.operate, todo, threads=threads)
    report.losses += races.ledger_faults(users, told)
    refused = sum(1 for line in told if line.startswith(races.REFUSALS))
    moved = sum(1 for line in told if line and ": " not in line)
    report.add(
        f"{threads} threads with {sizes.operations} ledger operations each, a third of them repeated",
        len(told),
        f"{moved} moved money, {refused} refused for want of credits, the rest moved nothing; "
        f"{LedgerEntry.objects.count()} entries add up",
    )


def threads_for(stage: Stage, wanted: int) -> int:
    """Return ``wanted``, or fewer where PostgreSQL has no room for a connection each."""
    return min(wanted, free_connections()) if stage.is_postgres else wanted


def free_connections() -> int:
    """Return how many connections more the PostgreSQL server takes without harm to others."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('max_connections')::int")
        most = int(cursor.fetchone()[0])
        cursor.execute("SELECT count(*) FROM pg_stat_activity")
        return max(3, most - int(cursor.fetchone()[0]) - SPARE_CONNECTIONS)


# --- races and the oracle ----------------------------------------------------------------------


def race(stage: Stage, crowd: Crowd, report: Report, sizes: Sizes) -> None:
    ends, faults = races.race_endings(
        crowd, sizes.endings, lambda done: stage.progress(done, sizes.endings, "endings")
    )
    report.losses += faults
    told = ", ".join(f"{times} {end}" for end, times in sorted(ends.items()))
    report.add("a cancellation against another end of the task", sizes.endings, told)
    owner = races.make_user("claimant")
    report.losses += races.race_claims(crowd, owner, sizes.claims)
    report.add(
        f"{crowd.size} workers claim one task at once; the first comes back later",
        sizes.claims,
        "each won once, a stale worker changed nothing" if not report.losses else "see below",
    )


def ask_oracle(report: Report, sizes: Sizes, seed: int) -> None:
    """Let Hypothesis order the verbs; what breaks the oracle is a loss with its shortest story."""
    before = TaskLog.objects.count()
    try:
        oracle.play(sizes.oracle, seed)
    except Exception as error:  # noqa: BLE001 - whatever it is, the product did not do as it should
        notes = " ".join(getattr(error, "__notes__", []))
        report.losses.append(f"the oracle: {type(error).__name__}: {error} {notes}")
    happened = Counter(TaskLog.objects.order_by("pk").values_list("kind", flat=True)[before:])
    told = ", ".join(f"{times} {kind}" for kind, times in sorted(happened.items()))
    report.add("steps of a stateful model of task and ledger", sizes.oracle, told)
