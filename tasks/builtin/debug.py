"""Debug: the smallest set of safe automatic fixes that turns a failing check into a passing one.

1. The checks before say what fails.
2. All safe fixes are tried at once, then each rule alone, on the failing checks; the files are
   put back after every try.
3. The smallest set that cures is applied, and all checks run again. What makes any check worse
   is taken back.

Nothing is changed without that proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from tasks.agent.ports import Assignment, Bench, Handback
from tasks.analysis import markdown, mypy, ruff
from tasks.analysis.base import Finding, Measured, Unmeasured, order
from tasks.analysis.checks import CheckRecord
from tasks.analysis.verdicts import is_worse
from tasks.builtin import fixes, steps
from tasks.builtin.fixes import Candidate, Fix, Trial

TRIES = 24
TRIES_OF_ONE_RULE = 10
TRY_SECONDS = 600.0
"""Seconds that all tries together may run checks."""
LISTED = 15
PLAN = ("Look at the failing checks", "Try safe fixes", "Apply the cure", "Run all checks again")


@dataclass
class Search:
    """A bounded search for the smallest fix.

    Its bounds count recorded outcomes, so that a resumed run comes to the same steps.
    """

    bench: Bench
    failing: Sequence[CheckRecord]
    candidates: Sequence[Candidate]
    tries: int = 0
    seconds: float = 0.0
    seen: dict[Fix, Trial] = field(default_factory=dict)

    @property
    def may_go_on(self) -> bool:
        return self.tries < TRIES and self.seconds < TRY_SECONDS

    def fix_for(self, rules: Sequence[str]) -> Fix:
        """Return the fix of these rules wherever they have something to fix."""
        paths = {one.path for one in self.candidates if one.rule in rules}
        return Fix(tuple(rules), tuple(sorted(paths)))

    def attempt(self, fix: Fix) -> frozenset[str]:
        """Return the failing commands that pass with this fix."""
        if fix not in self.seen:
            if not self.may_go_on:
                return frozenset()
            self.tries += 1
            self.seen[fix] = self._try(fix)
            self.seconds += self.seen[fix].seconds
        return frozenset(self.seen[fix].cured)

    def _try(self, fix: Fix) -> Trial:
        files = f"{len(fix.paths)} file{'' if len(fix.paths) == 1 else 's'}"
        rules = ", ".join(fix.rules[:3]) + (" …" if len(fix.rules) > 3 else "")
        work = steps.Work("try_fixes", f"Tried {rules} in {files}", asdict(fix))
        return Trial.from_data(
            steps.compute(
                self.bench, work, lambda: fixes.try_fix(self.bench.sandbox, fix, self.failing)
            )
        )

    def run(self) -> tuple[Fix, frozenset[str]] | None:
        """Return the smallest fix found and what it cures, or None."""
        rules = list(dict.fromkeys(one.rule for one in self.candidates))
        everything = self.fix_for(rules)
        cured = self.attempt(everything)
        best = everything if cured else None
        for rule in rules[:TRIES_OF_ONE_RULE]:
            alone = self.attempt(self.fix_for([rule]))
            if len(alone) > len(cured) or (alone and alone == cured):
                best, cured = self.fix_for([rule]), alone
                break
        if best is None:
            return None
        return self._without_idle_files(self._without_idle_rules(best, cured), cured), cured

    def _without_idle_rules(self, fix: Fix, cured: frozenset[str]) -> Fix:
        """Drop rules, half of them at a time and then fewer, while the rest still cures."""
        size = len(fix.rules) // 2
        while size:
            for start in reversed(range(0, len(fix.rules), size)):
                fewer = self.fix_for(fix.rules[:start] + fix.rules[start + size :])
                if fewer.rules and self.attempt(fewer) >= cured:
                    fix = fewer
            size //= 2
        return fix

    def _without_idle_files(self, fix: Fix, cured: frozenset[str]) -> Fix:
        """Narrow to the files that the failing checks name, then file by file."""
        near = fixes.places(self.failing)
        named = Fix(fix.rules, tuple(path for path in fix.paths if path in near))
        if named.paths and named != fix and self.attempt(named) >= cured:
            fix = named
        for path in fix.paths:
            fewer = Fix(fix.rules, tuple(one for one in fix.paths if one != path))
            if fewer.paths and self.attempt(fewer) >= cured:
                fix = fewer
        return fix


def cure(assignment: Assignment, bench: Bench) -> Handback:
    """Cure failing checks by safe automatic fixes, or say what was found."""
    checklist = steps.Checklist(bench, PLAN, start=15)
    checklist.begin(0)
    before = bench.checks_of("before")
    if before is None:
        before = bench.run_checks(phase="before")
    failing = [check for check in before if check.verdict == "failed"]
    if not failing:
        return _nothing_fails(bench, before)
    checklist.begin(1)
    try:
        search = Search(bench, failing, _candidates(bench, failing))
        found = search.run() if search.candidates else None
    except Unmeasured as reason:
        return _no_cure(bench, before, f" {reason}.")
    if found is None:
        tried = f" {search.tries} sets of fixes were tried." if search.tries else ""
        return _no_cure(bench, before, tried)
    checklist.begin(2)
    return _apply(bench, checklist, search, found[0])


def _candidates(bench: Bench, failing: Sequence[CheckRecord]) -> list[Candidate]:
    work = steps.Work(
        "find_fixes",
        "Looked for safe fixes",
        {"failing": [check.command for check in failing]},
        counted="candidate",
    )
    found = steps.compute(
        bench, work, lambda: [asdict(one) for one in fixes.find_candidates(bench.sandbox, failing)]
    )
    return [Candidate(**one) for one in found]


def _apply(bench: Bench, checklist: steps.Checklist, search: Search, fix: Fix) -> Handback:
    """Apply the cure and prove it; take it back where the proof fails."""
    before = bench.checks_of("before") or search.failing
    originals = {path: bench.show(path, at="head") for path in fix.paths}
    told = f"Applied the safe fixes of {', '.join(fix.rules)}"
    work = steps.Work("apply_fixes", told, asdict(fix), changes=True)
    changed = steps.compute(bench, work, lambda: fixes.apply(bench.sandbox, fix))
    checklist.begin(3)
    after = bench.run_checks(phase="after")
    if _any_worse(before, after) or not _cured(before, after):
        _take_back(bench, {path: originals[path] for path in changed})
        bench.run_checks(phase="after")
        return _no_cure(bench, before, " A fix that seemed to help made another check worse.")
    checklist.finish()
    return _cured_handback(before, after, search, fix)


def _take_back(bench: Bench, originals: dict[str, bytes | None]) -> None:
    def effect() -> list[str]:
        for path, content in originals.items():
            if content is not None:
                bench.sandbox.write(path, content)
        return sorted(originals)

    paths = {"paths": sorted(originals)}
    work = steps.Work("take_back", "Took the fixes back", paths, changes=True)
    steps.compute(bench, work, effect)


def _verdicts(checks: Sequence[CheckRecord]) -> dict[str, CheckRecord]:
    return {check.command: check for check in checks}


def _any_worse(before: Sequence[CheckRecord], after: Sequence[CheckRecord]) -> bool:
    now = _verdicts(after)
    return any(
        check.command not in now or is_worse(check.verdict, now[check.command].verdict)
        for check in before
    )


def _cured(before: Sequence[CheckRecord], after: Sequence[CheckRecord]) -> list[str]:
    passed = {check.command for check in after if check.verdict == "passed"}
    return [one.command for one in before if one.verdict == "failed" and one.command in passed]


def _cured_handback(
    before: Sequence[CheckRecord], after: Sequence[CheckRecord], search: Search, fix: Fix
) -> Handback:
    cured = _cured(before, after)
    fixed = [one for one in search.candidates if one.rule in fix.rules and one.path in fix.paths]
    summary = (
        f"{', '.join(cured)} failed before and passes now: {len(fixed)} safe fix"
        f"{'' if len(fixed) == 1 else 'es'} of {', '.join(fix.rules)} in {', '.join(fix.paths)}."
    )
    rows = [
        (
            markdown.place(one.path, one.line),
            markdown.code(one.rule),
            markdown.text(one.message),
        )
        for one in fixed
    ]
    content = "\n\n".join(
        [
            "## What was wrong and is fixed",
            markdown.table(("Place", "Rule", "What"), rows),
            "## Checks",
            _checks_table(before, after),
        ]
    )
    data = {
        "cured": cured,
        "rules": list(fix.rules),
        "fixes": [asdict(one) for one in fixed],
        "checks": _compared(before, after),
        "sets_tried": search.tries,
    }
    evidence = "; ".join(
        f"{one['command']}: {one['before']} → {one['after']}" for one in _compared(before, after)
    )
    return Handback("done", summary, content=content, data=data, evidence=evidence)


def _nothing_fails(bench: Bench, before: Sequence[CheckRecord]) -> Handback:
    passed = [check.command for check in before if check.verdict == "passed"]
    if passed:
        summary = f"No check fails ({', '.join(passed)}), so there is nothing to cure safely."
        return _found_only(bench, before, summary, status="no_change_needed")
    reasons = "; ".join(f"{check.command}: {check.reason}" for check in before)
    summary = f"No check could be run, so no fix can be proven. {reasons}".strip()
    return _found_only(bench, before, summary, status="blocked")


def _no_cure(bench: Bench, before: Sequence[CheckRecord], why: str) -> Handback:
    failing = ", ".join(check.command for check in before if check.verdict == "failed")
    summary = f"No safe automatic fix cures {failing}.{why} Nothing was changed."
    return _found_only(bench, before, summary, status="blocked")


def _found_only(
    bench: Bench, before: Sequence[CheckRecord], summary: str, *, status: Any
) -> Handback:
    """Hand back what the analysers see near the failure, without a change."""
    findings = _near(bench, [check for check in before if check.verdict == "failed"])
    parts = [summary, "## Checks", _checks_table(before, ())]
    if findings:
        parts += [
            "## Worth a look, nearest to the failure first",
            markdown.findings_table(findings),
        ]
    data = {
        "cured": [],
        "checks": _compared(before, ()),
        "findings": [asdict(one) for one in findings],
    }
    return Handback(status, summary, content="\n\n".join(parts), data=data)


def _near(bench: Bench, failing: Sequence[CheckRecord]) -> list[Finding]:
    """Return serious findings, those in files that the failing checks name first."""
    places = fixes.places(failing)
    found: list[Finding] = []
    for name, title, measure in (
        ("ruff", "Look for code smells", ruff.measure),
        ("mypy", "Check types", mypy.measure),
    ):
        measurement = steps.measure(bench, name, title, partial(measure, bench.sandbox))
        if isinstance(measurement, Measured):
            found += [one for one in measurement.findings if one.severity != "low"]
    return sorted(found, key=lambda one: (one.path not in places, order(one)))[:LISTED]


def _compared(before: Sequence[CheckRecord], after: Sequence[CheckRecord]) -> list[dict[str, Any]]:
    now = _verdicts(after)
    return [
        {
            "command": check.command,
            "before": check.verdict,
            "after": now[check.command].verdict if check.command in now else None,
        }
        for check in before
    ]


def _checks_table(before: Sequence[CheckRecord], after: Sequence[CheckRecord]) -> str:
    rows = [
        (markdown.code(one["command"]), one["before"], one["after"] or "not run again")
        for one in _compared(before, after)
    ]
    return markdown.table(("Check", "Before", "After"), rows) if rows else "No check was found."
