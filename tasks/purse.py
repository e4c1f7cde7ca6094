"""What a run's model calls may cost, and paying for them from the task's hold."""

from __future__ import annotations

from aimodels import usage as model_usage
from aimodels.providers.base import Usage
from asynccoder.lib.errors import OutOfCredit
from billing import ledger
from billing.errors import CapExceeded
from tasks.agent.errors import OutOfBudget
from tasks.lease import hold_reference
from tasks.models import Step, Task
from tasks.records import Money, call_reference


class Purse:
    """Reserves the worst case of a call before it, and charges what it used. Microcredits."""

    def __init__(self, task: Task, money: Money) -> None:
        self.task = task
        self.money = money
        self.last_call = (0, 0)
        """The bytes of the last request, and the tokens that the provider counted in them."""
        self.charged = task.charged_microcredits
        """What the task was charged so far: as long as a lease is held, by its run alone."""

    def worst_case(self, request_bytes: int, max_output_tokens: int) -> int:
        """Return the most that a call can use.

        A token is at least a byte, so the input is at most what the last call reported plus the
        bytes that were appended since (agent-design, section 3).
        """
        if self.money.is_own_key:
            return 0
        model = self.money.model
        last_bytes, last_tokens = self.last_call
        bound = last_tokens + max(request_bytes - last_bytes, 0)
        input_tokens = min(bound if last_tokens else request_bytes, model.context_window)
        return int(model.worst_case_microcredits(input_tokens, max_output_tokens))

    def reserve(self, microcredits: int) -> None:
        """Make sure that the hold covers a call. Raises OutOfBudget."""
        try:
            ledger.reserve(
                hold_reference=hold_reference(self.task.pk),
                microcredits=microcredits,
                cap_microcredits=self.money.cap_microcredits,
                charged_microcredits=self.charged,
            )
        except CapExceeded as error:
            raise OutOfBudget("money", str(error)) from error
        except OutOfCredit as error:
            raise OutOfBudget("balance", str(error)) from error

    def charge(self, step: Step, usage: Usage) -> int:
        """Charge a call; return what it cost, nothing if an earlier attempt at it has paid."""
        cost = 0 if self.money.is_own_key else self.money.model.cost_microcredits(usage)
        if not cost:
            return 0
        description = f"{self.task.title} · step {step.ordinal} · {self.money.model}"
        return ledger.charge(
            hold_reference=hold_reference(self.task.pk),
            microcredits=cost,
            reference=call_reference(step),
            description=description[:300],
        )

    def record(
        self, step: Step, usage: Usage, *, seconds: float, charged: int = 0, failure: str = ""
    ) -> None:
        """Count a call in the day's statistics and, with an own key, in the key's log."""
        task, money = self.task, self.money
        model_usage.record(
            model_usage.Call(
                model=money.model,
                user_id=task.owner_id,
                reference=call_reference(step),
                tokens=usage,
                seconds=seconds,
                failure=failure,
                key_id=money.key_id,
            ),
            model_usage.Work(
                task_type=task.type,
                repository_id=task.repository_id,
                charged_microcredits=charged,
                is_own_key=money.is_own_key,
            ),
        )
