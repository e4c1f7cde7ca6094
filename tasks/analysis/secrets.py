"""Hard-coded credentials, by the shapes of known keys and by entropy; always masked."""

from __future__ import annotations

from typing import Any

from tasks.analysis.base import (
    OWN_RULES,
    Finding,
    Measured,
    Measurement,
    Unmeasured,
    attempt,
    is_test,
    list_files,
    measured,
    run_script,
)
from tasks.sandbox.base import Sandbox

UNLIKELY = (".lock", "-lock.json", ".sum", ".svg", ".ipynb", ".min.js", ".map")
ADVICE = "Revoke it, read it from the environment, and remove it from the history."


def measure(sandbox: Sandbox) -> Measurement:
    """Measure credentials: findings without the secret itself."""
    return attempt("secrets", lambda: _measure(sandbox))


def _measure(sandbox: Sandbox) -> Measured:
    paths = [path for path in list_files(sandbox).paths if not path.endswith(UNLIKELY)]
    if not paths:
        raise Unmeasured("the repository has no files")
    return measured("secrets", OWN_RULES, inspect(sandbox, paths))


def inspect(sandbox: Sandbox, paths: list[str]) -> list[Finding]:
    """Return the credentials in these files. Raises Unmeasured."""
    return [_finding(hit) for hit in run_script(sandbox, "credentials", {"paths": paths})]


def _finding(hit: dict[str, Any]) -> Finding:
    return Finding(
        path=hit["path"],
        line=hit["line"],
        rule=hit["rule"],
        # Tests need passwords; a key of a known shape is one wherever it stands.
        severity="low" if is_test(hit["path"]) and hit["rule"] == "assigned-secret" else "high",
        message=f"Hard-coded credential ({hit['rule'].replace('-', ' ')}): {hit['masked']}",
        recommendation=ADVICE,
        tool="secrets",
        confidence="medium" if hit["rule"] == "assigned-secret" else "high",
    )
