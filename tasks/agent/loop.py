"""The agent's loop: check limits, call the model, run its tools, journal, repeat.

It is deterministic given the journal: after a crash the same code runs again, is given every
recorded outcome at once, and goes on where the first run stopped. Exceptions are control flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from aimodels.providers.base import (
    ContextOverflow,
    MalformedReply,
    Provider,
    Reply,
    ToolCall,
    ToolOutput,
)
from aimodels.providers.wire import dump
from tasks.agent import prompts
from tasks.agent.arguments import BadArguments, missing_fields, read_arguments
from tasks.agent.budget import AgentLimits, Budget
from tasks.agent.context import History
from tasks.agent.errors import ModelGaveUp, OutOfBudget
from tasks.agent.finishing import FINISH, failing_anew, finish_tool
from tasks.agent.output import failed, one_line
from tasks.agent.ports import Assignment, Bench, CheckRecord, Handback, Mode, ToolResult
from tasks.agent.stuck import StuckWatch, act, digest_of_diff
from tasks.agent.toolbox import Workbench
from tasks.agent.tools import chosen

__all__ = ["AgentLimits", "run_agent"]

CALLS_PER_REPLY = 16
FIRST_PERCENT, LAST_PERCENT = 15, 85


def run_agent(
    *, assignment: Assignment, mode: Mode, provider: Provider, bench: Bench, limits: AgentLimits
) -> Handback:
    """Work on the assignment until the model has finished, and return its result.

    Raises OutOfBudget, ModelGaveUp, a ProviderError other than MalformedReply and
    ContextOverflow, and whatever the bench's journal raises to stop the run.
    """
    return _Agent(assignment, mode, provider, bench, limits).run()


class _TryAgain(Exception):
    """Nothing came of this step; the next one asks anew."""


class _Finished(Exception):
    """The model has finished for good."""


class _Blocked(Exception):
    """The run goes round in circles, though the model was told."""


class _Agent:
    def __init__(
        self,
        assignment: Assignment,
        mode: Mode,
        provider: Provider,
        bench: Bench,
        limits: AgentLimits,
    ) -> None:
        self.assignment = assignment
        self.mode = mode
        self.provider = provider
        self.bench = bench
        self.limits = limits
        self.budget = Budget(limits)
        self.watch = StuckWatch()
        self.workbench = Workbench(bench, limits, is_read_only=mode.is_read_only)
        self.tools = chosen(mode.tools, is_read_only=mode.is_read_only)
        self.finish_spec = finish_tool(mode)
        specs = [*(tool.spec for tool in self.tools.values()), self.finish_spec]
        self.material = mode.material(assignment, bench)
        self.opening = prompts.opening(mode, assignment, bench, self.material)
        self.history = History(
            provider, limits, prompts.system_parts(mode, limits, assignment), specs
        )
        self.history.add_user(self.opening)
        self.accepted: dict[str, Any] = {}
        self.is_reviewed = False
        self.is_finished = False
        self.is_usable = False
        self.has_called_finish = False
        self.repair_left: int | None = None
        self.was_told = False
        self.percent = 0

    def run(self) -> Handback:
        while True:
            try:
                self.step()
            except _TryAgain:
                continue
            except _Finished:
                return self.result()
            except (OutOfBudget, ModelGaveUp):
                if not self.accepted:
                    raise
                # The repair came to nothing, the result before it stands, as it is now.
                self.bench.run_checks(phase="after")
                return self.result()
            except _Blocked as blocked:
                return Handback("blocked", f"The run was ended because {blocked}.")

    def result(self) -> Handback:
        return self.mode.make(self.accepted, self.bench, self.assignment, self.material)

    def step(self) -> None:
        """Ask the model once and do what it asks for."""
        self.check_limits()
        self.make_room()
        reply = self.ask()
        self.history.add_reply(reply)
        self.check_reply(reply)
        self.is_usable = self.has_called_finish = False
        outputs = [self.answer(call, number) for number, call in enumerate(reply.tool_calls)]
        if not self.is_usable:
            self.budget.count_malformed(outputs[-1].text)
        self.history.add_outputs(self.with_notices(outputs))
        if self.is_finished:
            raise _Finished

    # --- limits --------------------------------------------------------------------------------

    def check_limits(self) -> None:
        if self.repair_left == 0:
            self.bench.run_checks(phase="after")
            raise _Finished
        if self.repair_left is not None:
            self.repair_left -= 1
        self.budget.begin_call()
        self.show_progress()

    def show_progress(self) -> None:
        share = self.budget.calls / self.limits.calls
        percent = FIRST_PERCENT + int((LAST_PERCENT - FIRST_PERCENT) * share)
        if percent >= self.percent + 2 or not self.percent:
            self.percent = percent
            self.bench.set_progress(percent, f"Step {self.budget.calls}")

    def make_room(self) -> None:
        """Cut the conversation where it has grown too long."""
        if self.history.is_long():
            self.history.mask()
        if self.history.is_nearly_full() and self.history.can_sum_up(self.opening):
            self.history.sum_up(self.opening, self.summary())

    def summary(self) -> str:
        """Ask the model to sum up what it knows; what comes of it replaces the earlier turns."""
        self.budget.begin_call()
        try:
            reply = self.call_model(extra=prompts.SUMMARY_REQUEST)
        except (MalformedReply, ContextOverflow):
            return prompts.LOST_SUMMARY
        self.budget.replied(reply.at)
        heading = "# Summary of your work so far (written by you)"
        return f"{heading}\n{reply.text}" if reply.text.strip() else prompts.LOST_SUMMARY

    def shrink(self, error: ContextOverflow) -> None:
        """Make room after the provider refused the conversation as too long."""
        if self.history.mask(keep=1) or self.history.sum_up(self.opening, prompts.LOST_SUMMARY):
            return
        raise ModelGaveUp(
            "conversation_too_long", f"The task does not fit this model's window: {error}"[:500]
        )

    # --- the model -----------------------------------------------------------------------------

    def ask(self) -> Reply:
        """Return the model's next reply. Raises _TryAgain where there is none that can be used."""
        try:
            reply = self.call_model()
        except MalformedReply as error:
            self.budget.count_malformed(str(error))
            raise _TryAgain from None
        except ContextOverflow as error:
            self.shrink(error)
            raise _TryAgain from None
        self.budget.replied(reply.at)
        return reply

    def call_model(self, *, extra: str = "") -> Reply:
        request = self.history.request(extra=extra)

        def effect() -> Reply:
            reply = self.provider.complete(request, on_text=self.bench.stream)
            return replace(reply, at=self.bench.elapsed())

        return self.bench.journal.model_call(
            digest=sha256(f"{self.history.digest}\0{extra}".encode()).hexdigest(),
            request_bytes=self.history.appended_bytes + 2 * len(extra.encode()),
            max_output_tokens=request.max_output_tokens,
            effect=effect,
        )

    def check_reply(self, reply: Reply) -> None:
        """Answer a reply from which nothing can be run. Raises _TryAgain or ModelGaveUp."""
        if reply.stop_reason == "refusal":
            raise ModelGaveUp("model_refused", f"The model refused: {one_line(reply.text, 400)}")
        if reply.stop_reason == "length":
            self.answer_cut_reply(reply)
        elif not reply.tool_calls:
            self.budget.count_malformed("a reply without a tool call")
            self.history.add_user(self.noted(prompts.NO_TOOL_CALL))
            raise _TryAgain

    def answer_cut_reply(self, reply: Reply) -> None:
        self.budget.count_malformed("a reply that was cut off at its length limit")
        text = (
            f"Your reply was cut off at {self.limits.output_tokens:,} tokens, so nothing of it was "
            "run. Do less in one reply: write long files in several edits."
        )
        if reply.tool_calls:
            outputs = [ToolOutput(call, text, is_error=True) for call in reply.tool_calls]
            self.history.add_outputs(self.with_notices(outputs))
        else:
            self.history.add_user(self.noted(text))
        raise _TryAgain

    # --- tools ---------------------------------------------------------------------------------

    def answer(self, call: ToolCall, number: int) -> ToolOutput:
        """Run one call of a reply and return what the model is told."""
        if number >= CALLS_PER_REPLY or self.has_called_finish:
            why = "nothing comes after finish" if self.has_called_finish else "too many calls"
            return ToolOutput(call, f"Not run: {why} in one reply.", is_error=True)
        try:
            result = self.use(call)
        except BadArguments as error:
            self.watch.saw(act(call.name, call.arguments, str(error), is_error=True))
            return ToolOutput(call, str(error), is_error=True)
        self.is_usable = True
        self.budget.malformed = 0
        self.watch.saw(act(call.name, call.arguments, result.text, is_error=result.is_error))
        return ToolOutput(call, result.text, is_error=result.is_error)

    def use(self, call: ToolCall) -> ToolResult:
        """Journal and run one call. Raises BadArguments for one that fits no tool."""
        if call.name == FINISH:
            return self.finish(read_arguments(call.arguments, self.finish_spec.schema))
        tool = self.tools.get(call.name)
        if tool is None:
            names = ", ".join([*self.tools, FINISH])
            raise BadArguments(f"There is no tool {one_line(call.name, 60)!r}. There are: {names}.")
        arguments = read_arguments(call.arguments, tool.spec.schema)
        result = self.bench.journal.tool_call(
            name=call.name,
            arguments=dump(arguments),
            changes=tool.changes,
            effect=lambda: tool.use(self.workbench, arguments),
        )
        self.watch_changes(call.name)
        return result

    def watch_changes(self, name: str) -> None:
        """After every few edits, look whether the difference is one that was there before."""
        if self.watch.is_diff_due(changes=name in ("edit", "apply_patch")):
            digest = self.bench.journal.note(
                name="diff", effect=lambda: digest_of_diff(self.bench.diff())
            )
            self.watch.saw_diff(digest)

    def with_notices(self, outputs: Sequence[ToolOutput]) -> list[ToolOutput]:
        """Append what the platform has to say to the last output of a turn."""
        *earlier, last = outputs
        return [*earlier, replace(last, text=self.noted(last.text))]

    def noted(self, text: str) -> str:
        """Return the text with what the model must be told now. Raises _Blocked."""
        notices = [self.budget.notice()]
        if (evidence := self.watch.evidence()) and not self.is_finished:
            if self.was_told:
                raise _Blocked(evidence)
            self.was_told = True
            self.watch.forget()
            notices.append(prompts.stuck_notice(evidence))
        mark = prompts.platform_mark(self.assignment)
        return "".join([text, *(f"\n\n{mark} {notice}" for notice in notices if notice)])

    # --- finishing -----------------------------------------------------------------------------

    def finish(self, arguments: dict[str, Any]) -> ToolResult:
        """Take a finish: refuse it, answer the first with the review list, or end the run."""
        self.has_called_finish = True
        is_first = not self.is_reviewed
        result = self.bench.journal.tool_call(
            name=FINISH,
            arguments=dump(arguments),
            changes=False,
            effect=lambda: self.judge(arguments, is_first=is_first),
        )
        if result.is_error:
            return result
        self.is_reviewed = True
        if is_first:
            return result
        self.accepted = arguments
        failing = self.failing_checks(arguments)
        if not failing:
            self.is_finished = True
            return result
        self.repair_left = self.limits.repair_steps
        text = prompts.repair_request(failing, self.limits.repair_steps)
        return ToolResult(f"{prompts.platform_mark(self.assignment)} {text}", is_error=True)

    def judge(self, arguments: dict[str, Any], *, is_first: bool) -> ToolResult:
        """Say what is wrong with a finish, or answer it. Journalled: it looks at the files."""
        required = self.mode.required if arguments["status"] == "done" else ()
        if missing := missing_fields(arguments, required):
            return failed(f"finish lacks: {', '.join(missing)}.")
        if refusal := self.mode.refuse(arguments, self.bench, self.assignment):
            return failed(refusal)
        if not is_first:
            return ToolResult("Accepted.", summary="Finished")
        diff = "" if self.mode.is_read_only else self.bench.diff()
        return ToolResult(prompts.review_list(self.mode, diff), summary="Reviews its result")

    def failing_checks(self, arguments: dict[str, Any]) -> list[CheckRecord]:
        """Run the platform's checks on the result; return what a first round must repair."""
        if not self.mode.is_checked or arguments["status"] != "done":
            return []
        after = self.bench.run_checks(phase="after")
        if self.repair_left is not None:
            return []
        return failing_anew(self.bench.checks_of("before") or (), after)
