"""``python -m benchmarks NAME [--quick]``: measure, print one JSON line a case and one a goal.

The exit status is 1 when a goal is missed. Peers are measured where ``make peers`` has installed
them, else a yardstick of our own stands in for them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys

BENCHMARKS: dict[str, str] = {
    "loop": "a step, a start and a long run of the agent's loop, and its memory (A1-A3)",
    "sandbox": "a command in a new sandbox and in one that is kept (C)",
    "workspace": "a workspace until it is ready, and its disk (B)",
    "doorbell": "an idle ring until a run is claimed, and a burst (D)",
    "live": "events to many sockets and streams at once (F, G)",
    "signin": "a refused sign-in to an account and to none",
    "endtoend": "from a POST to the first request that reaches the model (Z)",
}
"""What each benchmark asks. Each is a module with ``run(*, quick: bool, rounds: int) -> bool``:
whether every goal was met."""
PROFILED = ("loop", "sandbox", "endtoend")
"""Those that can say where their time goes: modules with ``profile(*, quick: bool) -> None``."""


def main() -> int:
    listed = "\n".join(f"  {name:<14}{what}" for name, what in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="small counts, to see that it works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--profile", action="store_true",
        help=f"print instead where the time goes ({', '.join(PROFILED)})",
    )  # fmt: skip
    options = parser.parse_args()
    if options.profile and options.name not in PROFILED:
        parser.error(f"{options.name} has no profile")
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        # Without byte code every start of a process would be measured with its compilation.
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]])
    # What a benchmark has started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    module = importlib.import_module(f"benchmarks.{options.name}")
    if options.profile:
        module.profile(quick=options.quick)
        return 0
    return 0 if module.run(quick=options.quick, rounds=options.rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
