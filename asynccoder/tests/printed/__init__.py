"""The examples that the documents of the API print, and whether a reply looks like what is printed.

A document is Markdown. ``SEEDS_DIR`` names the folder of the original ones; without it the facts of
the copies beside this file are used. A block is known by its heading, the bold label above it and
its language; blocks of other languages (trees, addresses, headers) are read for routes alone.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILES = {"S0": "000_*.txt", "S1": "001_*.txt", "S2": "002_*.txt", "S3": "003_*.txt"}
"""The documents by their short name, and how their files are called in SEEDS_DIR."""
METHODS = "GET|POST|PUT|PATCH|DELETE|DEL|WS"
_LINE = re.compile(
    r"^(?:(?P<heading>\#{1,6}\ [^\n]*)|(?P<label>\*\*[A-Z][^\n]*)|```(?P<language>\w*)\n(?P<body>.*?)^```)",
    re.M | re.S | re.X,
)
_ROUTE = re.compile(rf"^\W*({METHODS})\s+(/\S+)", re.M)
_SAID = re.compile(r" - .*")
"""What a heading says of its route."""
_WORD = re.compile(r":\s*(boolean|any|number)\b")


@dataclass(frozen=True)
class Block:
    """A printed block; ``place`` is what names it in a failure."""

    document: str
    heading: str
    label: str
    language: str
    text: str
    number: int

    @property
    def place(self) -> str:
        return f"{self.document}-{self.number} {self.heading} {self.label}".strip()

    @property
    def route(self) -> tuple[str, str] | None:
        """The method and path that the heading names, or None."""
        found = _ROUTE.search(self.heading)
        return (found[1], found[2]) if found else None

    @property
    def is_client(self) -> bool:
        """Whether it is a program that somebody would copy and run."""
        return self.language in {"python", "javascript", "typescript"} or "curl " in self.text

    def value(self) -> Any:
        """Return the JSON of the block, with what the document leaves out (``...``) as null or {}."""
        text = _WORD.sub(": null", self.text)
        text = re.sub(r"\{\s*\.\.\.\s*\}", "{}", re.sub(r"\[\s*\.\.\.\s*\]", "[]", text))
        text = re.sub(r",\s*\.\.\.\s*(?=[\]}])", "", text)
        text = re.sub(r"^ *//.*\n|(?<=[,{]) *//.*$", "", text, flags=re.M)
        return json.loads(text)


def text_of(document: str) -> str:
    """Return a document: the original where SEEDS_DIR names its folder, else the facts kept here."""
    folder = os.environ.get("SEEDS_DIR")
    if not folder:
        return (HERE / f"{document}.md").read_text()
    (path,) = Path(folder).glob(FILES[document])
    return path.read_text()


def blocks_of(document: str) -> Iterator[Block]:
    heading = label = ""
    number = 0
    for found in _LINE.finditer(text_of(document)):
        if found["heading"]:
            heading, label = (
                _SAID.sub("", found["heading"].lstrip("# ").replace("*", "")).strip(),
                "",
            )
        elif found["label"]:
            label = found["label"].replace("*", "").strip(" :")
        else:
            number += 1
            yield Block(document, heading, label, found["language"], found["body"], number)


def routes_of(document: str) -> set[tuple[str, str]]:
    """Return the (method, path) of every route that the document names anywhere."""
    found = set(_ROUTE.findall(text_of(document)))
    return {("DELETE" if method == "DEL" else method, path) for method, path in found}


def misfit(reply: Any, printed: Any, *, may_be_null: frozenset[str], path: str = "") -> str:
    """Return where a reply is not what was printed, or "". Its names and types count, not values.

    Of a list, one item must fit. A moment is ISO 8601 with an offset, an id printed as ``uuid`` or
    as one is a UUID.
    """
    name = path.rsplit(".", 1)[-1]
    if printed is None or (reply is None and name in may_be_null):
        return ""
    if type(printed) is not type(reply) and not (_is_number(printed) and _is_number(reply)):
        return f"{path}: {reply!r} instead of {printed!r}"
    if isinstance(printed, dict):
        found = (
            misfit(reply[key], value, may_be_null=may_be_null, path=f"{path}.{key}")
            if key in reply
            else f"{path}.{key} is missing"
            for key, value in printed.items()
        )
        return next(filter(None, found), "")
    if isinstance(printed, list) and printed:
        wrongs = [misfit(one, printed[0], may_be_null=may_be_null, path=path) for one in reply]
        return "" if "" in wrongs else [*wrongs, f"{path} is empty"][0]
    return _unlike(reply, printed, path) if isinstance(printed, str) else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _unlike(reply: str, printed: str, path: str) -> str:
    try:
        if re.match(r"\d{4}-\d\d-\d\dT", printed) and not datetime.fromisoformat(reply).tzinfo:
            return f"{path}: {reply!r} has no offset"
        if printed == "uuid" or re.match(r"[0-9a-f]{8}(-|\.\.\.)", printed):
            uuid.UUID(reply)
    except ValueError:
        return f"{path}: {reply!r} is not like {printed!r}"
    return ""
