"""Asking the model, and keeping what is asked within its window."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from aimodels.providers.base import ContextOverflow, MalformedReply, Reply
from tasks.agent import prompts
from tasks.agent.budget import Budget
from tasks.agent.context import History
from tasks.agent.errors import ModelGaveUp
from tasks.agent.flow import StepLost
from tasks.agent.ports import Bench


class Conversation:
    """The history of a run and the journalled calls that continue it."""

    def __init__(self, history: History, bench: Bench, budget: Budget, opening: str) -> None:
        self.history = history
        self.bench = bench
        self.budget = budget
        self.opening = opening
        history.add_user(opening)

    def ask(self) -> Reply:
        """Return the model's next reply, added to the history. Raises StepLost where none came."""
        self._make_room()
        try:
            reply = self._call()
        except MalformedReply as error:
            self.budget.count_malformed(str(error))
            raise StepLost from None
        except ContextOverflow as error:
            self._shrink(error)
            raise StepLost from None
        self.budget.replied(reply.at)
        self.history.add_reply(reply)
        return reply

    def _call(self, *, extra: str = "") -> Reply:
        request = self.history.request(extra=extra)

        def effect() -> Reply:
            reply = self.history.provider.complete(request, on_text=self.bench.stream)
            return replace(reply, at=self.bench.elapsed())

        return self.bench.journal.model_call(
            digest=sha256(f"{self.history.digest}\0{extra}".encode()).hexdigest(),
            request_bytes=self.history.appended_bytes + 2 * len(extra.encode()),
            max_output_tokens=request.max_output_tokens,
            effect=effect,
        )

    # --- room ----------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Cut the conversation where it has grown too long."""
        if self.history.is_long():
            self.history.mask()
        if self.history.is_nearly_full() and self.history.can_sum_up(self.opening):
            self.history.sum_up(self.opening, self._summary())

    def _summary(self) -> str:
        """Ask the model to sum up what it knows; what comes of it replaces the earlier turns."""
        self.budget.begin_call()
        try:
            reply = self._call(extra=prompts.SUMMARY_REQUEST)
        except (MalformedReply, ContextOverflow):
            return prompts.LOST_SUMMARY
        self.budget.replied(reply.at)
        heading = "# Summary of your work so far (written by you)"
        return f"{heading}\n{reply.text}" if reply.text.strip() else prompts.LOST_SUMMARY

    def _shrink(self, error: ContextOverflow) -> None:
        """Make room after the provider refused the conversation as too long."""
        if self.history.mask(keep=1):
            return
        if self.history.sum_up(self.opening, prompts.LOST_SUMMARY):
            return
        raise ModelGaveUp(
            "conversation_too_long", f"The task does not fit this model's window: {error}"[:500]
        )
