"""The journal of a run: each step a row, written before its effect and settled after it.

On resume the engine runs again from its beginning; every step that is done returns its recorded
outcome at once, so the run continues at the first step that is not. A model call that was
answered is never paid twice; one whose answer died with its worker is marked lost and is the
platform's cost (agent-design, sections 2 and 3). Every write is fenced by the lease's generation.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from aimodels.providers.base import ContextOverflow, MalformedReply, ProviderError, Reply, Usage
from asynccoder.lib import bus, storable
from asynccoder.lib.connections import let_go
from tasks import events
from tasks.agent.ports import ToolResult
from tasks.errors import CheckpointRefused, LeaseLost, RunStopped
from tasks.events import Event
from tasks.models import Artifact, Step, Task
from tasks.purse import Purse
from tasks.records import (
    Checkpoint,
    Money,
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


class RunJournal:
    """Implements ``tasks.agent.ports.Journal`` over the database."""

    def __init__(self, task: Task, money: Money) -> None:
        self.task = task
        self.generation = task.generation
        self.purse = Purse(task, money)
        self.checkpoint: Callable[[str], Checkpoint | None] = lambda previous: None
        """Commits the workspace after a step that changed files; set once there is one."""
        self.on_reset: Callable[[str], None] = lambda commit: None
        """Brings the workspace back to a checkpoint."""
        self.is_stopping: Callable[[], bool] = lambda: False
        """Tells whether the run must stop before it begins another step."""
        self._refusals = 0
        self.on_answer: Callable[[], bool] = lambda: False
        """Called first in the transaction that settles a model's answer; tells whether it has
        written an event, and so locked the task's row."""
        self._ordinal = 0
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
            self.purse.last_call = (request_bytes, step.input_tokens)
            return replayed_reply(step)
        worst = self.purse.worst_case(request_bytes, max_output_tokens)
        step = self._begin(
            Step(kind=Step.Kind.MODEL_CALL, name="model", input_digest=digest), reserve=worst
        )
        let_go()
        bus.send()
        began = time.monotonic()
        try:
            reply = effect()
        except (MalformedReply, ContextOverflow) as error:
            usage = getattr(error, "usage", None) or Usage()
            failure = type(error).__name__
            outcome = json.dumps({"error": failure, "message": str(error)})
            self._settle_call(step, outcome, usage, began=began, failure=failure)
            raise
        except ProviderError as error:
            with transaction.atomic():
                self._lose(step)
                self.purse.record(
                    step, Usage(), seconds=time.monotonic() - began, failure=type(error).__name__
                )
            raise
        self.purse.last_call = (request_bytes, reply.usage.input)
        step.summary = first_line(reply.text) or step.summary
        self._settle_call(step, reply.to_json(), reply.usage, began=began)
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
        bus.send()
        result, made = effect(), None
        if changes:
            try:
                made = self.checkpoint(self.head)
            except CheckpointRefused as error:
                result = self._undo(error)
        self._settle_tool(step, result, made)
        return result

    def _undo(self, error: CheckpointRefused) -> ToolResult:
        """Take back what no checkpoint can hold, and say so; the last allowed time the run fails."""
        self._refusals += 1
        if self._refusals >= settings.CHECKPOINT_REFUSALS:
            raise error
        self.on_reset(self.head)
        text = f"{error.message} What this call did to the workspace was taken back."
        return ToolResult(text, is_error=True, summary="Taken back: it could not be kept")

    def note(self, *, name: str, effect: Callable[[], str]) -> str:
        """Record a decision that cannot be computed again (a clock, a commit), and return it."""
        step = self._known_step(Step.Kind.PLATFORM, name, digest_of(name))
        if step is not None:
            return step.outcome
        bus.send()
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
        bus.send()
        text = effect()
        step.summary = first_line(text)
        with transaction.atomic():
            self._event("step.finished", step)
            self._settle(step, {"outcome": text})
        return text

    # --- resuming ------------------------------------------------------------------------------

    def _known_step(self, kind: str, name: str, digest: str) -> Step | None:
        """Move to the next step; return its row if it is done, else lose what was begun."""
        if self.is_stopping():
            raise RunStopped
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

        What follows is lost and done again; a call that was paid keeps its reference, so it is free.
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
                self.purse.reserve(reserve)
            step.started_at = Now()
            self._insert(step)
        return step

    def _event(self, kind: str, step: Step, **data: Any) -> None:
        values = {"ordinal": self._ordinal, "kind": step.kind, "name": step.name}
        started = {"current_step": step.summary[:200]} if kind == "step.started" else {}
        changes = started | data.pop("changes", {})
        events.append(
            self.task.pk,
            Event(kind, step.summary, data={**values, "summary": step.summary, **data}),
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
        self, step: Step, outcome: str, usage: Usage, *, began: float, failure: str = ""
    ) -> None:
        is_error = bool(failure)
        seconds = time.monotonic() - began
        tokens = {
            "input_tokens": usage.input,
            "cached_tokens": usage.cached,
            "output_tokens": usage.output,
        }
        with transaction.atomic():
            if not self.on_answer():
                self.fence()
            charged = self.purse.charge(step, usage)
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
            self.purse.record(step, usage, seconds=seconds, charged=charged, failure=failure)
        self.purse.charged += charged

    def _settle(self, step: Step, values: dict[str, Any]) -> None:
        settled = Step.objects.filter(pk=step.pk, state=Step.State.STARTED).update(
            state=Step.State.DONE, finished_at=Now(), summary=step.summary, **values
        )
        if not settled:
            raise LeaseLost(f"step {step.ordinal} was settled by another")
