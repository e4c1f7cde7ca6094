"""debug: find the cause of a fault and mend it."""

from __future__ import annotations

from tasks.modes.base import Mode, make_changes, refuse_untrue_status, text_field

MODE = Mode(
    type="debug",
    result_kind="code_changes",
    is_checked=True,
    instructions="""
The user reports a fault. Find its cause and mend it there, with the smallest change that makes the \
fault impossible rather than invisible. Make the fault show itself before you change anything: a \
failing test or a few lines that go wrong. If it does not show, find out under which conditions it \
would. When you know the cause, look for the same mistake nearby, and mention what you leave alone. \
Add a regression test where the repository has tests.""",
    done="""
You saw the fault happen, you can explain why it happened, the cause is mended, you saw that it no \
longer happens, and the tests that passed before still pass. `no_change_needed` means that you \
proved there is no fault in this code.""",
    checklist="""
1. Cause: does the change cure the cause you can explain, or only the symptom you saw?
2. Proof: did you see the fault before the change and see it gone after it, with the same command?
3. Other callers: who else uses the changed code, and is each of them still right?
4. Edges: empty, missing, repeated, very large, other types, errors half-way.
5. Size: is there a line in the diff that the fix does not need (debug output, scratch files, \
reformatting)? Remove it.
6. Tests: is there a test that fails without the fix? Was no test weakened, skipped or deleted?
7. Truth: does the summary claim only what you saw?""",
    fields={
        "cause": text_field("The root cause, with file and line, in a few sentences."),
        "reproduction": text_field("How the fault shows itself: the command and what went wrong."),
        "left_alone": text_field("Related problems that you saw and did not touch."),
    },
    required=("cause",),
    refuse=refuse_untrue_status,
    make=make_changes(
        ("cause", "Cause"), ("reproduction", "Reproduction"), ("left_alone", "Left alone")
    ),
)
