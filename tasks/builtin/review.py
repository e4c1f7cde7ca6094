"""Review: what analysers find on the changed lines and did not find before the change.

At most five findings, each with the failure it leads to; none is a good result, too.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.agent.ports import Assignment, Bench, Handback, Review
from tasks.analysis import bandit, markdown, mypy, ruff, secrets
from tasks.analysis.base import Finding, Unmeasured, is_test, order, python_files
from tasks.builtin import failures, steps, suggestions
from tasks.builtin.failures import PREFIXES, RUFF

MOST = 5
BASE = "/tmp/review-base"  # noqa: S108 - inside the sandbox, whose /tmp is its own
CONFLICT_MARKER = re.compile(rb"^(<{7} |>{7} )")
PASSWORDS = ("B105", "B106", "B107")
"""Bandit's rules about passwords; the look for credentials judges better."""
RULES = (*PREFIXES, *(rule for rule in RUFF if rule != "invalid-syntax"))
Look = Callable[[], list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Change:
    """The change under review, with the files' lines before and after it."""

    review: Review
    before: dict[str, bytes]
    after: dict[str, bytes]

    @property
    def python(self) -> list[str]:
        return [path for path in self.after if path.endswith(".py")]

    def line(self, path: str, number: int, *, side: dict[str, bytes] | None = None) -> str:
        """Return a line without its indentation, or "" beyond the end."""
        lines = (self.after if side is None else side).get(path, b"").splitlines()
        return (
            lines[number - 1].decode("utf-8", "replace").strip() if 0 < number <= len(lines) else ""
        )

    def is_changed(self, path: str, number: int) -> bool:
        return number in self.review.changed_lines.get(path, frozenset())

    def new(self, found: Iterable[Finding], known: Iterable[Finding] = ()) -> list[Finding]:
        """Keep what stands on a changed line and was not there, on an equal line, before."""
        old = Counter(
            (one.path, one.rule, self.line(one.path, one.line, side=self.before)) for one in known
        )
        kept = []
        for one in found:
            key = (one.path, one.rule, self.line(one.path, one.line))
            if old[key] > 0:
                old[key] -= 1
            elif self.is_changed(one.path, one.line):
                kept.append(one)
        return kept


def review(assignment: Assignment, bench: Bench) -> Handback:
    """Review the change; data is {summary, verdict, findings, not_measured}."""
    if assignment.review is None:
        return Handback("blocked", "There is no change to review.")
    change = _load(assignment.review, bench)
    looks = _looks(change, bench)
    checklist = steps.Checklist(bench, [title for _, title, _ in looks])
    found: list[dict[str, Any]] = []
    unmeasured: dict[str, str] = {}
    for index, (name, title, look) in enumerate(looks):
        checklist.begin(index)
        try:
            found += steps.compute(bench, steps.Work(name, title, counted="finding"), look)
        except Unmeasured as reason:
            unmeasured[name] = str(reason)
    checklist.finish()
    return _hand_back(change, _worst(found), unmeasured)


def _load(asked: Review, bench: Bench) -> Change:
    before: dict[str, bytes] = {}
    after: dict[str, bytes] = {}
    for path in sorted(asked.changed_lines):
        try:
            after[path] = bench.sandbox.read(path)
        except (OSError, ValueError):
            continue  # Deleted, a link or too large: it has no line to comment on.
        before[path] = bench.show(path, at="base") or b""
    return Change(asked, before, after)


def _looks(change: Change, bench: Bench) -> list[tuple[str, str, Look]]:
    """Return each look at the change: the step's name, what it does, and the work."""
    return [
        ("conflicts", "Look for conflict markers", lambda: _conflicts(change)),
        ("ruff", "Look for errors", lambda: _ruff(change, bench)),
        ("bandit", "Look for security issues", lambda: _bandit(change, bench)),
        ("secrets", "Look for credentials", lambda: _secrets(change, bench)),
        ("mypy", "Check types", lambda: _mypy(change, bench)),
    ]


def _conflicts(change: Change) -> list[dict[str, Any]]:
    found = [
        Finding(path, number, "merge-conflict", "high", "A merge conflict is not resolved")
        for path, content in change.after.items()
        for number, line in enumerate(content.splitlines(), 1)
        if CONFLICT_MARKER.match(line)
    ]
    return [_entry(one, failures.CONFLICT) for one in change.new(found)]


def _ruff(change: Change, bench: Bench) -> list[dict[str, Any]]:
    if not change.python:
        raise Unmeasured("no Python file was changed")
    found = ruff.diagnose(bench.sandbox, change.python, rules=RULES)
    known = [
        ruff.as_finding(one)
        for one in ruff.diagnose(bench.sandbox, _place_base(change, bench), rules=RULES, cwd=BASE)
    ]
    fixes = {(one.path, one.line, one.rule): one for one in found if one.is_safe_to_fix}
    entries = []
    for one in change.new(map(ruff.as_finding, found), known):
        failure = failures.of_ruff(one.rule, one.message)
        if not failure:
            continue
        entry = _entry(one, failure)
        diagnosis = fixes.get((one.path, one.line, one.rule))
        proposed = diagnosis and suggestions.suggest(
            bench.sandbox, change.after[one.path], diagnosis
        )
        entries.append(entry | ({"suggestion": proposed} if proposed else {}))
    return entries


def _place_base(change: Change, bench: Bench) -> list[str]:
    """Write the files as they were into the sandbox's own folder."""
    for path in change.python:
        bench.sandbox.write(f"{BASE}/{path}", change.before[path])
    return change.python


def _bandit(change: Change, bench: Bench) -> list[dict[str, Any]]:
    paths = [path for path in change.python if not is_test(path)]
    if not paths:
        raise Unmeasured("no Python file besides tests was changed")
    found = [
        one
        for one in change.new(bandit.inspect(bench.sandbox, paths))
        if one.severity != "low" and one.confidence != "low" and one.rule not in PASSWORDS
    ]
    if found:
        _place_base(change, bench)
        found = change.new(found, bandit.inspect(bench.sandbox, paths, cwd=BASE))
    return [_entry(one, failures.of_bandit(one.rule, one.message)) for one in found]


def _secrets(change: Change, bench: Bench) -> list[dict[str, Any]]:
    if not change.after:
        raise Unmeasured("no file was changed")
    found = secrets.inspect(bench.sandbox, list(change.after))
    return [_entry(one, failures.SECRET) for one in change.new(found) if one.severity == "high"]


def _mypy(change: Change, bench: Bench) -> list[dict[str, Any]]:
    if not change.python:
        raise Unmeasured("no Python file was changed")
    found, _ = mypy.check(bench.sandbox, python_files(bench.sandbox))
    sure = [one for one in change.new(found) if not is_test(one.path)]
    entries = [_entry(one, failures.of_mypy(one.rule, one.message)) for one in sure]
    return [one for one in entries if one["failure"]]


def _entry(one: Finding, failure: str) -> dict[str, Any]:
    return asdict(one) | {"failure": failure}


def _worst(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the worst findings, one for each line: tools often see the same fault."""
    names = Finding.__dataclass_fields__.keys()
    ranked = sorted(found, key=lambda one: order(Finding(**{name: one[name] for name in names})))
    by_line: dict[tuple[str, int], dict[str, Any]] = {}
    for one in ranked:
        by_line.setdefault((one["path"], one["line"]), one)
    return list(by_line.values())[:MOST]


def _hand_back(
    change: Change, worst: Sequence[dict[str, Any]], unmeasured: dict[str, str]
) -> Handback:
    findings = [_finding(change, one) for one in worst]
    verdict = _verdict(worst)
    lines = sum(map(len, change.review.changed_lines.values()))
    count = f"{len(findings)} finding{'' if len(findings) == 1 else 's'}"
    summary = f"{count} on {lines} changed lines in {len(change.after)} files: {VERDICTS[verdict]}."
    data = {
        "summary": summary,
        "verdict": verdict,
        "findings": findings,
        "not_measured": unmeasured,
    }
    return Handback("done", summary, content=_content(summary, findings, unmeasured), data=data)


VERDICTS = {
    "request_changes": "changes are needed",
    "comment": "only small things",
    "approve": "nothing stands against it",
}


def _verdict(worst: Sequence[dict[str, Any]]) -> str:
    if any(one["severity"] != "low" for one in worst):
        return "request_changes"
    return "comment" if worst else "approve"


def _finding(change: Change, one: dict[str, Any]) -> dict[str, Any]:
    line = change.line(one["path"], one["line"])
    return {
        "path": one["path"],
        "line": one["line"],
        "end_line": one["line"],
        "severity": one["severity"],
        "title": one["message"],
        "failure": one["failure"],
        "rule": one["rule"],
        "tool": one["tool"],
        "fingerprint": fingerprint(one["path"], one["rule"], line),
        **({"suggestion": one["suggestion"]} if "suggestion" in one else {}),
    }


def fingerprint(path: str, rule: str, line: str) -> str:
    """Return a name that stays when the line moves within its file."""
    return hashlib.sha256("\0".join((path, rule, line)).encode()).hexdigest()[:16]


def _content(summary: str, findings: Sequence[dict[str, Any]], unmeasured: dict[str, str]) -> str:
    parts = [summary]
    for one in findings:
        place = markdown.place(one["path"], one["line"])
        title = markdown.text(one["title"])
        part = f"### {place} {title}\n\n**{one['severity']}**: {markdown.text(one['failure'])}"
        if "suggestion" in one:
            part += f"\n\nSuggested: {markdown.code(one['suggestion'])}"
        parts.append(part)
    if unmeasured:
        left = "; ".join(f"{name}: {markdown.text(why)}" for name, why in unmeasured.items())
        parts.append(f"Not looked at: {left}.")
    return "\n\n".join(parts)
