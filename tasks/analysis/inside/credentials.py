"""Find hard-coded credentials. Request: {"paths": [path]}; answer: [{path, line, rule, masked}].

The secret itself never leaves the sandbox: only its first characters and its length do.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter
from pathlib import Path

LARGEST = 1_000_000
MOST = 500
KNOWN = {
    "private-key": r"-----BEGIN (?:RSA |EC |DSA |OPENSSH |PGP )?PRIVATE KEY(?: BLOCK)?-----",
    "aws-access-key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "github-token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})\b",
    "gitlab-token": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "slack-token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "stripe-key": r"\b[rs]k_live_[A-Za-z0-9]{16,}",
    "google-api-key": r"\bAIza[0-9A-Za-z_-]{35}",
    "anthropic-key": r"\bsk-ant-[A-Za-z0-9_-]{20,}",
    "openai-key": r"\bsk-(?:proj-)?[A-Za-z0-9_-]{32,}",
    "url-password": r"\b[a-z][a-z0-9+.-]*://[^\s:/@\"']{1,64}:(?P<secret>[^\s:/@\"'{}<>$]{6,})@",
}
PATTERNS = {rule: re.compile(pattern) for rule, pattern in KNOWN.items()}
ASSIGNED = re.compile(
    r"""(?ix) (?: passw(?:or)?d | passwd | secret | token | api_?key | access_?key
        | private_?key | credential ) \w* ["']? \s* (?: :\s*str\s*= | [:=]=? | => ) \s*
        (?P<quote>["']) (?P<secret>[^"'\s]{8,200}) (?P=quote)"""
)
PLACEHOLDER = re.compile(
    r"(?i)example|change.?me|placeholder|dummy|sample|your[_-]|xxx|\*\*\*|<[^>]*>|[{}$%]|todo"
    r"|^(test\w*|[a-z_]+\d{0,2})$"
)


def entropy(text: str) -> float:
    """Return Shannon's entropy in bits a character."""
    counts = Counter(text).values()
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts)


def looks_secret(text: str) -> bool:
    """Tell a random-looking value from a word, a name or a path."""
    if PLACEHOLDER.search(text) or re.fullmatch(r"[a-z_.:/ -]+|[A-Z_.]+", text):
        return False
    return entropy(text) >= 2.8


def mask(text: str) -> str:
    return f"{text[:3]}… ({len(text)} characters)"


def search(line: str) -> tuple[str, str] | None:
    """Return the rule and the masked secret of a line that holds one."""
    for rule, pattern in PATTERNS.items():
        found = pattern.search(line)
        if found:
            secret = found.groupdict().get("secret") or found.group()
            if not PLACEHOLDER.search(secret):
                return rule, mask(secret)
    assigned = ASSIGNED.search(line)
    if assigned and looks_secret(assigned["secret"]):
        return "assigned-secret", mask(assigned["secret"])
    return None


def main() -> None:
    found: list[dict[str, object]] = []
    for path in json.load(sys.stdin)["paths"]:
        file = Path(path)
        if file.is_symlink() or not file.is_file() or file.stat().st_size > LARGEST:
            continue
        content = file.read_bytes()
        if b"\0" in content[:8192]:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            hit = search(line[:2000])
            if hit:
                found.append({"path": path, "line": number, "rule": hit[0], "masked": hit[1]})
    json.dump(found[:MOST], sys.stdout)


if __name__ == "__main__":
    main()
