"""The journal of a run: each step a row, written before its effect and settled after it.

On resume the engine runs again from its beginning; every step that is done returns its recorded
outcome at once, so the run continues at the first step that is not. A model call that was
answered is never paid twice; one whose answer died with its worker is marked lost and is the
platform's cost (agent-design, sections 2 and 3). Every write is fenced by the lease's generation.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now

from aimodels.providers.base import ContextOverflow, MalformedReply, ProviderError, Reply, Usage
from asynccoder.lib import storable
from asynccoder.lib.errors import OutOfCredit
from billing import ledger
from billing.errors import CapReached as HoldCapReached
from tasks import events
from tasks.agent.errors import OutOfBudget
from tasks.agent.ports import ToolResult
from tasks.errors import CheckpointRefused, LeaseLost
from tasks.events import Event
from tasks.lease import hold_reference
from tasks.models import Artifact, Step, Task
from tasks.records import (
    Checkpoint,
    Money,
    call_reference,
    digest_of,
    first_line,
    input_summary,
    replayed_reply,
    without_bytes,
)

logger = logging.getLogger(__name__)

INPUT_CHARACTERS = 100_000
"""How much of a tool's arguments the journal keeps; the digest covers all of them."""
ARTIFACT_BYTES = 20 * 1024**2
MOST_REFUSALS = 3
"""How many steps may leave something that no checkpoint takes before the run fails."""


class RunJournal:
    """Implements ``tasks.agent.ports.Journal`` over the database."""

    def __init__(self, task: Task, money: Money) -> None:
        self.task = task
        self.generation = task.generation
        self.money = money
        self.checkpoint: Callable[[str], Checkpoint | None] = lambda previous: None
        """Commits the workspace after a step that changed files; set once there is one."""
        self.on_reset: Callable[[str], None] = lambda commit: None
        """Brings the workspace back to a checkpoint."""
        self._refusals = 0
        self.on_answer: Callable[[], None] = lambda: None
        """Called when a model has answered, before the answer is settled."""
        self._ordinal = 0
        self._last_call = (0, 0)
        self._known = {step.ordinal: step for step in task.steps.order_by("ordinal", "attempt")}
        self.head = ""
        """The checkpoint as of the step that the run has come to (also while it replays)."""
        self.tree = ""
        self.replayed_seconds = sum(
            (step.finished_at - step.started_at).total_seconds()
            for step in self._known.values()
            if step.started_at and step.finished_at
        )

    @property
    def is_replaying(self) -> bool:
        """Tell whether the next step is one that an earlier attempt has done."""
        step = self._known.get(self._ordinal + 1)
        return step is not None and step.state == Step.State.DONE

    # --- the three kinds of steps -----------------------------------------------------------

    def model_call(
        self,
        *,
        digest: str,
        request_bytes: int,
        max_output_tokens: int,
        effect: Callable[[], Reply],
    ) -> Reply:
        """Reserve the worst case, call, settle what was used. Raises OutOfBudget, ProviderError.

        1. The row is written and the worst case reserved in one transaction.
        2. The model is called with no database connection held.
        3. The answer, its tokens and its charge are written in one transaction.
        """
        step = self._known_step(Step.Kind.MODEL_CALL, "model", digest)
        if step is not None:
            self._last_call = (request_bytes, step.input_tokens)
            return replayed_reply(step)
        worst = self._worst_case(request_bytes, max_output_tokens)
        step = self._begin(
            Step(kind=Step.Kind.MODEL_CALL, name="model", input_digest=digest), reserve=worst
        )
        connection.close()
        try:
            reply = effect()
        except (MalformedReply, ContextOverflow) as error:
            usage = getattr(error, "usage", None) or Usage()
            outcome = json.dumps({"error": type(error).__name__, "message": str(error)})
            self._settle_call(step, outcome, usage, is_error=True)
            raise
        except ProviderError:
            self._lose(step)
            raise
        self.on_answer()
        self._last_call = (request_bytes, reply.usage.input)
        self._settle_call(step, reply.to_json(), reply.usage, summary=first_line(reply.text))
        return reply

    def tool_call(
        self,
        *,
        name: str,
        arguments: str,
        changes: bool,
        effect: Callable[[], ToolResult],
        label: str = "",
    ) -> ToolResult:
        """Run a tool once; a checkpoint of what it changed is made before it settles."""
        digest = digest_of(name, arguments)
        step = self._known_step(Step.Kind.TOOL_CALL, name, digest)
        if step is not None:
            return ToolResult(**json.loads(step.outcome))
        step = self._begin(
            Step(
                kind=Step.Kind.TOOL_CALL,
                name=name,
                input_digest=digest,
                input=arguments[:INPUT_CHARACTERS],
                summary=label[:300],
                tree_before=self.tree,
            )
        )
        result, made = effect(), None
        if changes:
            try:
                made = self.checkpoint(self.head)
            except CheckpointRefused as error:
                result = self._undo(error)
        self._settle_tool(step, result, made)
        return result

    def _undo(self, error: CheckpointRefused) -> ToolResult:
        """Take back what no checkpoint can hold, and say so; the third time the run fails."""
        self._refusals += 1
        if self._refusals >= MOST_REFUSALS:
            raise error
        self.on_reset(self.head)
        text = f"{error.message} What this call did to the workspace was taken back."
        return ToolResult(text, is_error=True, summary="Taken back: it could not be kept")

    def note(self, *, name: str, effect: Callable[[], str]) -> str:
        """Record a decision that cannot be computed again (a clock, a commit), and return it."""
        step = self._known_step(Step.Kind.PLATFORM, name, digest_of(name))
        if step is not None:
            return step.outcome
        text = effect()
        with transaction.atomic():
            self.fence()
            self._insert(
                Step(
                    kind=Step.Kind.PLATFORM,
                    name=name,
                    input_digest=digest_of(name),
                    state=Step.State.DONE,
                    outcome=text,
                    summary=first_line(text),
                )
            )
        return text

    def external(self, *, name: str, effect: Callable[[], str]) -> str:
        """Act on the world outside once: ``effect`` looks first for what an earlier try left.

        The row is there before the effect; the lease is checked right before it.
        """
        step = self._known_step(Step.Kind.PLATFORM, name, digest_of(name))
        if step is not None:
            return step.outcome
        step = self._begin(Step(kind=Step.Kind.PLATFORM, name=name, input_digest=digest_of(name)))
        text = effect()
        step.summary = first_line(text)
        with transaction.atomic():
            self._event("step.finished", step)
            self._settle(step, {"outcome": text})
        return text

    # --- resuming ------------------------------------------------------------------------------

    def _known_step(self, kind: str, name: str, digest: str) -> Step | None:
        """Move to the next step; return its row if it is done, else lose what was begun."""
        self._ordinal += 1
        step = self._known.get(self._ordinal)
        if step is None:
            return None
        if step.state != Step.State.DONE:
            self._lose(step)
            return None
        if (step.kind, step.name, step.input_digest) != (kind, name, digest):
            self._part_from_journal()
            return None
        if step.checkpoint:
            self.head, self.tree = step.checkpoint, step.tree_after
        return step

    def _part_from_journal(self) -> None:
        """Go on afresh from this step: a newer version or another setting would do otherwise.

        What follows in the journal is lost and done again; calls that were paid are not paid
        again, for they have the same reference.
        """
        logger.warning("run %s parts from its journal at step %s", self.task.pk, self._ordinal)
        later = self.task.steps.filter(ordinal__gte=self._ordinal)
        message = "The platform has changed since; the task goes on from an earlier step."
        with transaction.atomic():
            events.append(
                self.task.pk,
                Event("log.written", message, "warning"),
                generation=self.generation,
                head_commit=self.head,
            )
            later.update(state=Step.State.LOST)
        for step in self._known.values():
            if step.ordinal >= self._ordinal:
                step.state = Step.State.LOST
        self.on_reset(self.head)

    def _lose(self, step: Step) -> None:
        """Mark a step whose outcome is unknown as lost; nobody is charged for it."""
        with transaction.atomic():
            self.fence()
            Step.objects.filter(pk=step.pk).exclude(state=Step.State.DONE).update(
                state=Step.State.LOST, finished_at=Now()
            )
        self._known[step.ordinal] = step

    # --- writing -------------------------------------------------------------------------------

    def fence(self) -> None:
        """Lock the task's row for this transaction, or raise LeaseLost."""
        held = Task.objects.held(self.task.pk, self.generation)
        if not held.update(updated_at=Now()):
            raise LeaseLost(str(self.task.pk))

    def _insert(self, step: Step) -> Step:
        earlier = self._known.get(self._ordinal)
        step.task = self.task
        step.ordinal = self._ordinal
        step.attempt = earlier.attempt + 1 if earlier else 1
        step.generation = self.generation
        step.save(force_insert=True)
        return step

    def _begin(self, step: Step, *, reserve: int = 0) -> Step:
        step.state = Step.State.STARTED
        step.summary = step.summary or input_summary(step)
        with transaction.atomic():
            self._event("step.started", step)
            if reserve:
                self._reserve(reserve)
            self._insert(step)
            Step.objects.filter(pk=step.pk).update(started_at=Now())
        return step

    def _event(self, kind: str, step: Step, **data: Any) -> None:
        ordinal = self._ordinal
        values = {"ordinal": ordinal, "kind": step.kind, "name": step.name, "summary": step.summary}
        changes = {"current_step": step.summary[:200]} if kind == "step.started" else {}
        changes |= data.pop("changes", {})
        events.append(
            self.task.pk,
            Event(kind, step.summary, data=values | data),
            generation=self.generation,
            **changes,
        )

    def _settle_tool(self, step: Step, result: ToolResult, made: Checkpoint | None) -> None:
        kept = replace(result, full=b"")
        step.summary = storable.text(result.summary or step.summary)[:300]
        values: dict[str, Any] = {
            "outcome": json.dumps(without_bytes(kept), ensure_ascii=False),
            "is_error": result.is_error,
            "exit_code": result.exit_code,
        }
        changes: dict[str, Any] = {}
        if made is not None:
            self.head, self.tree = made.commit, made.tree
            values |= {"tree_after": made.tree, "checkpoint": made.commit}
            changes["head_commit"] = made.commit
        with transaction.atomic():
            self._event(
                "step.finished",
                step,
                exit_code=result.exit_code,
                is_error=result.is_error,
                output=result.text[-events.OUTPUT_TAIL :],
                checkpoint=made.commit if made else "",
                changes=changes,
            )
            self._settle(step, values)
            if result.full:
                body = result.full[:ARTIFACT_BYTES]
                Artifact.objects.create(
                    task=self.task, step=step, name=f"step-{step.ordinal}.txt",
                    body=body, size_bytes=len(body),
                )  # fmt: skip

    def _settle_call(
        self, step: Step, outcome: str, usage: Usage, *, summary: str = "", is_error: bool = False
    ) -> None:
        cost = self.money.model.cost_microcredits(usage)
        charged = 0 if self.money.is_own_key else cost
        step.summary = (summary or step.summary)[:300]
        tokens = {
            "input_tokens": usage.input,
            "cached_tokens": usage.cached,
            "output_tokens": usage.output,
        }
        with transaction.atomic():
            self.fence()
            charged = charged if charged and self._charge(step, charged) else 0
            self._event(
                "step.finished",
                step,
                is_error=is_error,
                cost_microcredits=charged,
                **tokens,
                changes={
                    "charged_microcredits": F("charged_microcredits") + charged,
                    **{name: F(name) + value for name, value in tokens.items()},
                },
            )
            self._settle(
                step,
                {"outcome": outcome, "is_error": is_error, "cost_microcredits": charged, **tokens},
            )

    def _charge(self, step: Step, microcredits: int) -> bool:
        """Charge a call; False when an earlier attempt at this step has paid already."""
        description = f"{self.task.title} · step {step.ordinal} · {self.money.model}"
        return ledger.charge(
            hold_reference=hold_reference(self.task.pk),
            microcredits=microcredits,
            reference=call_reference(step),
            description=description[:300],
        )

    def _settle(self, step: Step, values: dict[str, Any]) -> None:
        settled = Step.objects.filter(pk=step.pk, state=Step.State.STARTED).update(
            state=Step.State.DONE, finished_at=Now(), summary=step.summary, **values
        )
        if not settled:
            raise LeaseLost(f"step {step.ordinal} was settled by another")

    # --- money ---------------------------------------------------------------------------------

    def _worst_case(self, request_bytes: int, max_output_tokens: int) -> int:
        """Return microcredits for the most this call can use.

        A token is at least a byte, so the input is at most what the last call reported plus the
        bytes that were appended since (agent-design, section 3).
        """
        if self.money.is_own_key:
            return 0
        model = self.money.model
        last_bytes, last_tokens = self._last_call
        bound = last_tokens + max(request_bytes - last_bytes, 0)
        input_tokens = min(bound if last_tokens else request_bytes, model.context_window)
        return int(model.worst_case_microcredits(input_tokens, max_output_tokens))

    def _reserve(self, microcredits: int) -> None:
        charged = Task.objects.values_list("charged_microcredits", flat=True).get(pk=self.task.pk)
        try:
            ledger.reserve(
                hold_reference=hold_reference(self.task.pk),
                microcredits=microcredits,
                cap_microcredits=self.money.cap_microcredits,
                charged_microcredits=charged,
            )
        except HoldCapReached as error:
            raise OutOfBudget("money", str(error)) from error
        except OutOfCredit as error:
            raise OutOfBudget("balance", str(error)) from error
