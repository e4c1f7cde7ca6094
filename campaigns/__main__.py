"""``python -m campaigns NAME``: run one campaign on an own small instance, print its table.

The exit status is 1 when anything was lost, doubled or got out, else 0.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from campaigns.own_postgres import OwnPostgres, running_postgres
from campaigns.report import Report, write_into
from campaigns.stage import open_stage


@dataclass(frozen=True)
class Campaign:
    """What a campaign attacks, its long size, and the settings that its processes need.

    The campaign is the module of the same name: ``run(stage, *, count, seed) -> Report``. It is
    imported when Django is set up.
    """

    what: str
    count: int
    settings: Mapping[str, str] = field(default_factory=dict)
    needs_own_redis: bool = False
    """Whether it flushes, stops or kills the Redis, so that a named one is not for it."""
    needs_own_postgres: bool = False
    """Whether it stops and kills the PostgreSQL; it plays on SQLite and then on such a one."""


PAID = {"OPENAI_API_KEY": "sk-campaign", "CLAUDE_API_KEY": "sk-campaign"}
"""The model servers are the campaign's own; a priced model needs a key all the same."""
UNLIMITED = {"RATE_TASK_CREATE": "100000/1h", "RATE_PLAN_FREE": "100000/1h"}
MIB = 1024**2
QUICK = {
    "LEASE_SECONDS": "15",
    "LEASE_RENEW_SECONDS": "1",
    "SWEEP_SECONDS": "0.3",
    "CANCEL_POLL_SECONDS": "0.1",
}

CAMPAIGNS: dict[str, Campaign] = {
    "kill": Campaign("SIGKILL to runs, workers and machines, at every place of a run", 1000, PAID),
    "money": Campaign("credits: many spenders at once, races, an oracle", 10_000, PAID | UNLIMITED),
    "providers": Campaign(
        "a model provider that fails in every way, and hostile models", 200, PAID
    ),
    "deploy": Campaign(
        "SIGTERM to one of two workers, again and again, while tasks keep coming",
        50,
        PAID,
    ),
    "broker": Campaign(
        "a Redis that is flushed, repeats itself, is killed and hangs; COUNT tasks each time",
        50,
        PAID | UNLIMITED,
        needs_own_redis=True,
    ),
    "cancel": Campaign("users who cancel, in every phase and at any moment", 100, PAID),
    "outages": Campaign(
        "Redis, database and disk gone or full under load, for COUNT seconds each",
        60,
        PAID | UNLIMITED | {"DISK_RESERVE_BYTES": str(16 * MIB)},
        needs_own_redis=True,
        needs_own_postgres=True,
    ),
    "escapes": Campaign(
        "a hostile model against the sandbox; COUNT kills of its worker",
        count=250,
        settings=QUICK
        | {
            "SANDBOX_PROCESSES": "64",
            "SANDBOX_MEMORY_BYTES": str(256 * MIB),
            "SANDBOX_FILE_BYTES": str(32 * MIB),
            "SANDBOX_DISK_BYTES": str(96 * MIB),
            "SANDBOX_OUTPUT_BYTES": str(4 * MIB),
            "SANDBOX_TMP_BYTES": str(64 * MIB),
            "LEASE_MAX_LOST": "100000",
            "AGENT_CALLS_DEBUG": "500",
            "MODEL_MAX_RETRIES": "0",
        },
    ),
    "repositories": Campaign(
        "hostile repositories, servers, addresses, workspaces and packs; COUNT more by chance",
        count=3000,
        settings={"REPOSITORY_MAX_BYTES": str(32 * MIB)},
    ),
}


def main() -> int:
    options = parse(sys.argv[1:])
    if CAMPAIGNS[options.name].needs_own_postgres:
        report = play_on_both(options)
    else:
        report = play(options, options.database)
    print(report.markdown())
    if options.write:
        write_into(options.write, options.name, report)
    return 1 if report.losses else 0


def play(options: argparse.Namespace, database: str, postgres: OwnPostgres | None = None) -> Report:
    """Open the stage and play; once in a process, for it sets Django up."""
    campaign = CAMPAIGNS[options.name]
    redis_url = "" if campaign.needs_own_redis else options.redis
    with open_stage(database=database, redis_url=redis_url, environment=campaign.settings) as stage:
        stage.postgres = postgres
        module = importlib.import_module(f"campaigns.{options.name}")
        count = options.count or campaign.count
        return cast(Report, module.run(stage, count=count, seed=options.seed))


def play_on_both(options: argparse.Namespace) -> Report:
    """Play on SQLite and on a PostgreSQL of the campaign's own, each in a process; one report."""
    reports = []
    for work in (play_on_sqlite, play_on_own_postgres):
        # Forked: this process has neither Django nor threads, and runs as ``python -m``.
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
            reports.append(pool.submit(work, options).result())
    report, other = reports
    for cells in other.rows:
        report.add(*cells)
    report.losses += other.losses
    report.facts |= other.facts
    return report


def play_on_sqlite(options: argparse.Namespace) -> Report:
    return play(options, "")


def play_on_own_postgres(options: argparse.Namespace) -> Report:
    with running_postgres() as server:
        if server is not None:
            return play(options, server.url, server)
        report = Report("", [""] * 5)
        report.add(
            "PostgreSQL stopped, killed", "PostgreSQL", "", "", "skipped: it is not installed"
        )
        return report


def parse(arguments: list[str]) -> argparse.Namespace:
    listed = "\n".join(f"  {name:<14}{campaign.what}" for name, campaign in CAMPAIGNS.items())
    parser = argparse.ArgumentParser(
        prog="python -m campaigns",
        description=__doc__,
        epilog=f"campaigns:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=list(CAMPAIGNS), metavar="NAME")
    parser.add_argument("--count", type=int, default=0, help="how many; by default the long size")
    parser.add_argument("--seed", type=int, default=1, help="chooses what is left to chance")
    parser.add_argument(
        "--database",
        default=os.environ.get("TEST_DATABASE_URL", ""),
        help="a PostgreSQL server's address; a database of its own is made there and dropped "
        "(default: TEST_DATABASE_URL, else an SQLite file)",
    )
    parser.add_argument(
        "--redis",
        default=os.environ.get("TEST_REDIS_URL", ""),
        help="a Redis that the campaign may use with keys of its own "
        "(default: TEST_REDIS_URL, else an embedded one)",
    )
    parser.add_argument("--write", type=Path, help="a document that has marks for this table")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
