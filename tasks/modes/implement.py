"""implement: a feature or a change in existing code."""

from __future__ import annotations

from tasks.modes.base import Mode, make_changes, refuse_untrue_status, text_field

CHECKLIST = """
1. Request: go through it sentence by sentence. Is each demand met by a line of the diff? Is there \
something in the diff that nobody asked for?
2. Proof: did you run what you built, the way its user will, and look at what came out?
3. Tests: does a test fail without the change? Was no test weakened, skipped or deleted?
4. Fit: names, structure, error handling and style as in the code around it; no second way of doing \
something the repository already does.
5. Edges: empty, missing, repeated, very large, wrong type, errors half-way, two at once.
6. Other places: callers, documentation, configuration, changelog, type hints that must follow.
7. Leftovers: debug output, scratch files, commented-out code. Remove them.
8. Truth: does the summary claim only what you saw?"""

FIELDS = {
    "how_to_try": text_field("How the user tries it: commands or steps, with what to expect."),
    "decisions": text_field("Choices you made where the task left them open, and assumptions."),
    "left_open": text_field("What is not done, known weak, or needs a person."),
}

MAKE = make_changes(
    ("how_to_try", "How to try it"), ("decisions", "Decisions"), ("left_open", "Left open")
)

MODE = Mode(
    type="implement",
    result_kind="code_changes",
    is_checked=True,
    instructions="""
The user wants something that this code does not do yet, or wants it done differently. Build \
exactly that, in the manner of the code that is there: look for the nearest existing feature and \
follow how it is made, wired, tested and documented. Where the request leaves a choice open, take \
the plainest one that fits, and say so. Keep everything that works today working.""",
    done="""
Every part of the request works and you saw it work, it is wired in (not only written), new \
behaviour is covered by tests in the repository's own style, existing tests still pass, and what \
a user must know is documented where such things are documented here.""",
    checklist=CHECKLIST,
    fields=FIELDS,
    required=("how_to_try",),
    refuse=refuse_untrue_status,
    make=MAKE,
)
