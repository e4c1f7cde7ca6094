"""The words of a question: names written as code, and plain words worth looking for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

QUOTED = re.compile(r"`([^`\n]{1,100})`")
WORD = re.compile(r"[A-Za-z_][\w.]*\w|[A-Za-z]")
NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
MOST = 12
IN_EVERY_QUESTION = """a about all also an and any are as at be been but by call called can code could define
defined did do does each every explain file files find first for from function get give go has
have how i in into is it its list made make me method module my name names no not of on one or
our out place places please project repository shall should show so some tell than that the
their them then there these they this those to up us use used uses using want was we were what
when where which while who why will with work works would you your class change happens"""
STOPWORDS = frozenset(IN_EVERY_QUESTION.split())


@dataclass(frozen=True, slots=True)
class Question:
    """What a question asks about."""

    names: tuple[str, ...]
    """Written as code: quoted, called, with an underscore, a dot or inner capitals."""
    words: tuple[str, ...]
    """Plain words in lower case, without those that every question has."""
    spelled: tuple[str, ...]
    """Every word as it was written."""

    @staticmethod
    def of(prompt: str) -> Question:
        """Read a question."""
        quoted = [name for text in QUOTED.findall(prompt) for name in NAME.findall(text)]
        spelled = list(dict.fromkeys(WORD.findall(prompt)))
        names = [*quoted, *(word for word in spelled if _is_name(word, prompt))]
        words = [word.lower() for word in spelled if len(word) > 2]
        return Question(
            names=tuple(dict.fromkeys(names))[:MOST],
            words=tuple(dict.fromkeys(one for one in words if one not in STOPWORDS))[:MOST],
            spelled=tuple(one for one in spelled if one.lower() not in STOPWORDS),
        )


def _is_name(word: str, prompt: str) -> bool:
    if "_" in word.strip("_") or f"{word}(" in prompt:
        return True
    if re.fullmatch(r"\w+(\.\w+)+", word):
        return True
    return re.search(r"[a-z][A-Z]", word) is not None


def parts(name: str) -> frozenset[str]:
    """Return the words of a name or a sentence: ``Invoice.grossTotal`` has three."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return frozenset(map(stem, re.findall(r"[a-z]+", spaced.lower())))


def stem(word: str) -> str:
    """Cut the commonest endings, so that "rounding" meets "round"."""
    for ending in ("ings", "ing", "ies", "ied", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def matches(word: str, among: Iterable[str]) -> bool:
    return stem(word) in among
