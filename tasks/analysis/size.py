"""How large the repository is: files and lines, by language."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from tasks.analysis.base import (
    OWN_RULES,
    Measured,
    Measurement,
    Unmeasured,
    attempt,
    language,
    list_files,
    measured,
    run_script,
)
from tasks.sandbox.base import Sandbox


def measure(sandbox: Sandbox) -> Measurement:
    """Measure files and lines; ``code_lines`` are lines with text in source files."""
    return attempt("size", lambda: _measure(sandbox))


def _measure(sandbox: Sandbox) -> Measured:
    tree = list_files(sandbox)
    if not tree.paths:
        raise Unmeasured("the repository has no files")
    counted = run_script(sandbox, "size", {"paths": tree.paths})
    languages: dict[str, dict[str, int]] = defaultdict(lambda: {"files": 0, "lines": 0})
    for path in tree.sources:
        if path in counted:
            languages[language(path)]["files"] += 1
            languages[language(path)]["lines"] += counted[path][1]
    figures: dict[str, Any] = {
        "files": len(tree.paths),
        "lines": sum(lines for lines, _ in counted.values()),
        "code_lines": sum(one["lines"] for one in languages.values()),
        "languages": dict(sorted(languages.items(), key=lambda item: -item[1]["lines"])),
    }
    return measured("size", OWN_RULES, [], figures)
