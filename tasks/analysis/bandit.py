"""Security issues in Python, by bandit.

Files are named one by one: bandit reads options from a ``.bandit`` file only in folders it
walks, and a repository must not be able to switch the check off. Tests are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

from tasks.analysis.base import (
    Finding,
    Measured,
    Measurement,
    Severity,
    Unmeasured,
    as_arguments,
    attempt,
    is_test,
    measured,
    parse_json,
    python_files,
    relative,
    run_tool,
    version_of,
)
from tasks.sandbox.base import WORKSPACE, Sandbox

SECONDS = 300
SKIPPED = "B101,B404"  # asserts and the mere import of subprocess are no issue
ADVICE = {
    "B102": "Replace exec with a function or a lookup table.",
    "B103": "Give the file the narrowest mode that works.",
    "B104": "Bind to the address that is needed, not to all.",
    "B105": "Read the secret from the environment and revoke the one in the history.",
    "B106": "Read the secret from the environment and revoke the one in the history.",
    "B107": "Read the secret from the environment and revoke the one in the history.",
    "B108": "Use the tempfile module.",
    "B110": "Catch the exception that is expected, and handle or log it.",
    "B112": "Catch the exception that is expected, and handle or log it.",
    "B113": "Pass a timeout.",
    "B201": "Turn the debugger off outside development.",
    "B202": "Check every member's path before extracting, or pass filter='data'.",
    "B301": "Use JSON: unpickling data runs code.",
    "B303": "Use SHA-256 or better.",
    "B306": "Use tempfile.mkstemp.",
    "B307": "Use ast.literal_eval or a parser.",
    "B310": "Allow only http and https.",
    "B311": "Use the secrets module where the number must not be guessed.",
    "B314": "Parse untrusted XML with defusedxml.",
    "B324": "Use SHA-256 or better, or pass usedforsecurity=False.",
    "B501": "Verify certificates.",
    "B506": "Use yaml.safe_load.",
    "B601": "Pass arguments as a list, without a shell.",
    "B602": "Pass the command as a list, without shell=True.",
    "B603": "Make sure that no argument comes from outside unchecked.",
    "B604": "Pass the command as a list, without shell=True.",
    "B605": "Use subprocess with a list of arguments.",
    "B607": "Name the program by its full path.",
    "B608": "Use parameterized queries.",
    "B701": "Turn autoescape on.",
}
SECRET = re.compile(r"(hardcoded password): .*", re.IGNORECASE | re.DOTALL)


def measure(sandbox: Sandbox) -> Measurement:
    """Measure security issues: findings without the passwords they may quote."""
    return attempt("bandit", lambda: _measure(sandbox))


def _measure(sandbox: Sandbox) -> Measured:
    paths = [path for path in python_files(sandbox) if not is_test(path)]
    if not paths:
        raise Unmeasured("there are no Python files besides tests")
    return measured("bandit", version_of(sandbox, "bandit"), inspect(sandbox, paths))


def inspect(sandbox: Sandbox, paths: Sequence[str], *, cwd: str = WORKSPACE) -> list[Finding]:
    """Return the issues in these files. Raises Unmeasured."""
    argv = ["bandit", "--quiet", "--format", "json", "--skip", SKIPPED, *as_arguments(paths)]
    result = run_tool(sandbox, argv, seconds=SECONDS, cwd=cwd)
    issues = parse_json(result.output, tool="bandit")["results"]
    return [_finding(issue, cwd) for issue in issues]


def _finding(issue: dict[str, Any], cwd: str) -> Finding:
    rule = issue["test_id"]
    level = issue["issue_severity"].lower()
    cwe = issue.get("issue_cwe", {}).get("id")
    return Finding(
        path=relative(issue["filename"], root=cwd),
        line=int(issue["line_number"]),
        rule=rule,
        severity=cast(Severity, level if level in ("high", "medium", "low") else "low"),
        # bandit quotes the password it found; what we store must not.
        message=SECRET.sub(r"\1", issue["issue_text"]).strip(),
        recommendation=ADVICE.get(rule, f"See CWE-{cwe}." if cwe else ""),
        tool="bandit",
        confidence=issue["issue_confidence"].lower(),
    )
