"""The agent's loop: check limits, call the model, run its tools, journal, repeat.

It is deterministic given the journal: after a crash the same code runs again, is given every
recorded outcome at once, and goes on where the first run stopped. Exceptions are control flow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from aimodels.providers.base import Provider, Reply, ToolCall, ToolOutput
from aimodels.providers.wire import dump
from tasks.agent import prompts
from tasks.agent.arguments import BadArguments, read_arguments
from tasks.agent.budget import AgentLimits, Budget
from tasks.agent.context import History
from tasks.agent.conversation import Conversation
from tasks.agent.errors import ModelGaveUp, OutOfBudget
from tasks.agent.finishing import FINISH, Finishing, finish_tool
from tasks.agent.flow import Blocked, Finished, StepLost
from tasks.agent.output import one_line
from tasks.agent.ports import Assignment, Bench, Handback, Mode, ToolResult
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


class _Agent:
    def __init__(
        self,
        assignment: Assignment,
        mode: Mode,
        provider: Provider,
        bench: Bench,
        limits: AgentLimits,
    ) -> None:
        self.bench = bench
        self.limits = limits
        self.mark = prompts.platform_mark(assignment)
        self.budget = Budget(limits)
        self.watch = StuckWatch(limits)
        self.workbench = Workbench(bench, limits)
        self.tools = chosen(mode.tools, is_read_only=mode.is_read_only)
        self.finish_spec = finish_tool(mode)
        self.finishing = Finishing(mode, assignment, bench, repair_steps=limits.repair_steps)
        self.material = mode.material(assignment, bench)
        specs = [*(tool.spec for tool in self.tools.values()), self.finish_spec]
        system = prompts.system_parts(mode, limits, assignment)
        opening = prompts.opening(mode, assignment, bench, self.material)
        self.history = History(provider, limits, system, specs)
        self.conversation = Conversation(self.history, bench, self.budget, opening)
        self.is_usable = False
        self.has_called_finish = False
        self.was_told = False
        self.percent = 0

    def run(self) -> Handback:
        while True:
            try:
                self.step()
            except StepLost:
                continue
            except Finished:
                return self.finishing.result(self.material)
            except (OutOfBudget, ModelGaveUp, Blocked) as end:
                if self.finishing.accepted:
                    return self.finishing.result_as_it_is(self.material)
                if isinstance(end, Blocked):
                    return Handback("blocked", f"The run was ended because {end}.")
                raise

    def step(self) -> None:
        """Ask the model once and do what it asks for."""
        if self.finishing.begin_step():
            raise OutOfBudget("calls", "The repair's steps are used up.")
        self.budget.begin_call()
        self.show_progress()
        reply = self.conversation.ask()
        self.check(reply)
        self.history.add_outputs(self.with_notices(self.answers(reply)))
        if self.finishing.is_over:
            raise Finished

    def show_progress(self) -> None:
        share = self.budget.calls / self.limits.calls
        percent = FIRST_PERCENT + int((LAST_PERCENT - FIRST_PERCENT) * share)
        if percent >= self.percent + 2 or not self.percent:
            self.percent = percent
            self.bench.set_progress(percent, f"Step {self.budget.calls}")

    def check(self, reply: Reply) -> None:
        """Answer a reply from which nothing can be run. Raises StepLost or ModelGaveUp."""
        if reply.stop_reason == "refusal":
            raise ModelGaveUp("model_refused", f"The model refused: {one_line(reply.text, 400)}")
        if reply.stop_reason == "length":
            self.answer_cut_reply(reply)
        elif not reply.tool_calls:
            self.budget.count_malformed("a reply without a tool call")
            self.history.add_user(self.noted(prompts.NO_TOOL_CALL))
            raise StepLost

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
        raise StepLost

    # --- tools ---------------------------------------------------------------------------------

    def answers(self, reply: Reply) -> list[ToolOutput]:
        """Run the calls of a reply in order and return what the model is told of each."""
        self.is_usable = self.has_called_finish = False
        outputs = [self.answer(call, number) for number, call in enumerate(reply.tool_calls)]
        if not self.is_usable:
            self.budget.count_malformed(outputs[-1].text)
        return outputs

    def answer(self, call: ToolCall, number: int) -> ToolOutput:
        if number >= CALLS_PER_REPLY or self.has_called_finish:
            why = "nothing comes after finish" if self.has_called_finish else "too many calls"
            return ToolOutput(call, f"Not run: {why} in one reply.", is_error=True)
        try:
            result = self.use(call)
        except BadArguments as error:
            result = ToolResult(str(error), is_error=True)
        else:
            self.is_usable = True
            self.budget.malformed = 0
        self.watch.saw(act(call.name, call.arguments, result.text, is_error=result.is_error))
        return ToolOutput(call, result.text, is_error=result.is_error)

    def use(self, call: ToolCall) -> ToolResult:
        """Journal and run one call. Raises BadArguments for one that fits no tool."""
        if call.name == FINISH:
            arguments = read_arguments(call.arguments, self.finish_spec.schema)
            self.has_called_finish = True
            return self.finishing.take(arguments)
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

    # --- what the platform has to say ----------------------------------------------------------

    def with_notices(self, outputs: Sequence[ToolOutput]) -> list[ToolOutput]:
        """Append what the platform has to say to the last output of a turn."""
        *earlier, last = outputs
        return [*earlier, replace(last, text=self.noted(last.text))]

    def noted(self, text: str) -> str:
        """Return the text with what the model must be told now. Raises Blocked."""
        notices = [self.budget.notice(), self.stuck_notice()]
        return "".join([text, *(f"\n\n{self.mark} {notice}" for notice in notices if notice)])

    def stuck_notice(self) -> str:
        evidence = "" if self.finishing.is_over else self.watch.evidence()
        if not evidence:
            return ""
        if self.was_told:
            raise Blocked(evidence)
        self.was_told = True
        self.watch.forget()
        return prompts.stuck_notice(evidence)
