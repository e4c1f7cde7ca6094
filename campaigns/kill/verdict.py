"""What must hold for a task that was killed, judged on plain facts, each with its own words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

LATEST_SECONDS = 60.0
"""How long after a restart a run may take to go on (reliability, section 3: worker death)."""
TERMINAL = ("task.completed", "task.failed", "task.cancelled")


@dataclass(frozen=True, slots=True)
class StepFact:
    """A row of the journal."""

    ordinal: int
    kind: str
    state: str
    cost: int = 0


@dataclass(frozen=True, kw_only=True)
class Facts:
    """All that is known of a task at its end. Amounts are microcredits."""

    name: str
    status: str = "completed"
    error_code: str = ""
    diff: str = ""
    tree: str = ""
    steps: Sequence[StepFact] = ()
    charges: Mapping[str, int] = field(default_factory=dict)
    """What the ledger took, by the call's number in its reference."""
    charged: int = 0
    released: bool = True
    told: Sequence[int] = ()
    """The price of each answer as the model server told it, by call."""
    requests: Mapping[int, int] = field(default_factory=dict)
    """How often the model server was asked, by call (from 1)."""
    events: Sequence[tuple[int, str]] = ()
    lost_attempts: int = 0
    kills: int = 0
    pushes: Sequence[str] = ()
    """Every change of the task's branch that the remote has seen: the commit it then had."""
    result: str = ""
    is_pushed: bool = True
    taken_up: Sequence[float] = ()
    """Seconds until the run went on, for each kill."""
    left: Sequence[str] = ()
    """Folders and files of attempts that nobody has cleared away."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """The owner's money and feed at the end of all tasks."""

    granted: int
    charged: int
    """What the tasks say that they were charged, in all."""
    balance: int
    held: int
    entries: Sequence[tuple[int, int]]
    """Number and change of the balance of each ledger entry, in their order."""
    feed: Sequence[int]
    places: int
    """How many runs of the owner are counted as running."""


def losses_of_account(account: Account) -> list[str]:
    found = []
    if account.balance != account.granted - account.charged:
        found.append(f"the balance is {account.balance} after charges of {account.charged}")
    if account.balance != sum(change for _, change in account.entries):
        found.append("the balance is not the sum of its entries")
    if [number for number, _ in account.entries] != list(range(1, len(account.entries) + 1)):
        found.append("the ledger has a gap or a number twice")
    if list(account.feed) != list(range(1, len(account.feed) + 1)):
        found.append("the owner's feed has a gap or a number twice")
    if account.held:
        found.append(f"{account.held} microcredits are still held")
    if account.places:
        found.append(f"{account.places} places of the owner are still taken")
    return found


def losses_of(facts: Facts, undisturbed: Facts) -> list[str]:
    """Return what a task has lost or doubled against the same task left in peace."""
    found = [*_ending(facts, undisturbed), *_money(facts), *_requests(facts), *_events(facts)]
    found += [*_recovery(facts), *(f"left behind: {path}" for path in facts.left)]
    return [f"{facts.name}: {loss}" for loss in found]


def losses_of_given_up(facts: Facts) -> list[str]:
    """Return what is wrong with a task that was killed once too often."""
    found = [*_money(facts), *_requests(facts), *_events(facts), *_recovery(facts)]
    if (facts.status, facts.error_code) != ("failed", "worker_lost"):
        found.append(f"ended {facts.status} {facts.error_code} and not as worker_lost")
    if facts.pushes:
        found.append("a branch was pushed")
    return [f"{facts.name}: {loss}" for loss in [*found, *facts.left]]


def _ending(facts: Facts, undisturbed: Facts) -> Iterator[str]:
    if facts.status != "completed":
        yield f"ended {facts.status} {facts.error_code}"
        return
    if facts.diff != undisturbed.diff:
        yield "the diff is not the undisturbed run's"
    if facts.tree != undisturbed.tree:
        yield "the tree is not the undisturbed run's"
    if not facts.is_pushed or list(facts.pushes) != [facts.result]:
        yield f"the branch was not pushed once: {list(facts.pushes)}, {facts.is_pushed=}"
    kinds = Counter(step.kind for step in facts.steps if step.state == "done")
    usual = Counter(step.kind for step in undisturbed.steps if step.state == "done")
    if kinds != usual:
        yield f"the steps are not the undisturbed run's: {dict(kinds)}"
    if dict(facts.charges) != dict(undisturbed.charges):
        yield "the charges are not the undisturbed run's"


def _calls(facts: Facts, state: str) -> list[StepFact]:
    rows = [step for step in facts.steps if step.kind == "model_call" and step.state == state]
    return sorted(rows, key=lambda step: step.ordinal)


def _money(facts: Facts) -> Iterator[str]:
    settled = {str(step.ordinal): step.cost for step in _calls(facts, "done")}
    for ordinal in facts.charges.keys() - settled.keys():
        yield f"a charge without a settled call: step {ordinal}"
    for ordinal, cost in settled.items():
        if facts.charges.get(ordinal) != cost:
            yield f"step {ordinal} was settled at {cost} and charged {facts.charges.get(ordinal)}"
    if list(settled.values()) != list(facts.told[: len(settled)]):
        yield "the settled calls do not cost what the model server told"
    if facts.charged != sum(facts.charges.values()):
        yield f"the task says {facts.charged} and the ledger {sum(facts.charges.values())}"
    if not facts.released:
        yield "its hold is still open"


def _requests(facts: Facts) -> Iterator[str]:
    """Each request is the settled one or died with a row that says so."""
    ordinals = [step.ordinal for step in _calls(facts, "done")]
    lost = Counter(step.ordinal for step in _calls(facts, "lost"))
    begun = sorted({*ordinals, *lost, *(step.ordinal for step in _calls(facts, "started"))})
    settled, open_rows = Counter(ordinals), Counter(s.ordinal for s in _calls(facts, "started"))
    for call, asked in sorted(facts.requests.items()):
        ordinal = begun[call - 1] if call <= len(begun) else 0
        known = settled[ordinal] + lost[ordinal] + open_rows[ordinal]
        if asked > known:
            yield f"call {call} was asked {asked} times and the journal knows {known}"
    for ordinal, times in settled.items():
        if times > 1:
            yield f"step {ordinal} was settled {times} times"
    for call in range(1, len(ordinals) + 1):
        if not facts.requests.get(call):
            yield f"call {call} was settled and the model server was never asked"


def _events(facts: Facts) -> Iterator[str]:
    numbers = [number for number, _ in facts.events]
    if numbers != list(range(1, len(numbers) + 1)):
        yield "the events have a gap or a number twice"
    ends = [kind for _, kind in facts.events if kind in TERMINAL]
    if len(ends) != 1:
        yield f"{len(ends)} terminal events"
    open_steps = [s.ordinal for s in facts.steps if s.state == "started"]
    if facts.status == "completed" and open_steps:
        yield f"steps still open: {open_steps}"


def _recovery(facts: Facts) -> Iterator[str]:
    if facts.lost_attempts > facts.kills:
        yield f"{facts.lost_attempts} lost attempts and {facts.kills} kills"
    for seconds in facts.taken_up:
        if seconds > LATEST_SECONDS:
            yield f"taken up only after {seconds:.0f} s"
