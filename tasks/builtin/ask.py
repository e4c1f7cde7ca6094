"""Ask: where a name is defined and used, cited by path and line; it never guesses an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tasks.agent.ports import Assignment, Bench, Handback
from tasks.analysis import docstrings, markdown
from tasks.analysis.base import (
    Tree,
    Unmeasured,
    as_arguments,
    list_files,
    relative,
    run_script,
    run_tool,
)
from tasks.builtin import steps
from tasks.builtin.words import Question, matches, parts

NAMES = 5
PLACES = 25
MENTIONS = 15
NEAREST = 6
Place = dict[str, Any]
TITLES = {
    "definition": "Defined",
    "assignment": "Assigned",
    "use": "Used",
    "import": "Imported",
    "mention": "Mentioned",
}


@dataclass(frozen=True, slots=True)
class Index:
    """What the repository's Python defines, by name."""

    items: Sequence[dict[str, Any]]

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the definitions of a name, with or without its owner."""
        return [one for one in self.items if name in (one["name"], one["name"].rpartition(".")[2])]

    def nearest(self, question: Question) -> list[dict[str, Any]]:
        """Return the definitions whose names and first sentences share most words with it."""
        ranked = sorted(
            ((self._score(one, question), one) for one in self.items),
            key=lambda pair: (-pair[0], pair[1]["path"], pair[1]["line"]),
        )
        return [one for score, one in ranked[:NEAREST] if score >= 1]

    def _score(self, one: dict[str, Any], question: Question) -> float:
        own = parts(one["name"])
        said = parts(f"{one['doc']} {one['path']}")
        return sum(
            1.0 if matches(word, own) else 0.4 if matches(word, said) else 0.0
            for word in question.words
        )


def answer(assignment: Assignment, bench: Bench) -> Handback:
    """Answer with places; data is {citations: [{path, line, text}], names}."""
    question = Question.of(assignment.prompt)
    bench.set_plan([("Search the repository", "in_progress"), ("Answer", "pending")])
    bench.set_progress(15, "Searching the repository")
    try:
        asked = {"names": list(question.names), "words": list(question.words)}
        work = steps.Work("search", "Searched the repository", asked)
        found = steps.compute(bench, work, lambda: search(bench, question))
    except Unmeasured as reason:
        return Handback("blocked", f"The repository could not be searched: {reason}.")
    bench.set_plan([("Search the repository", "done"), ("Answer", "done")])
    bench.set_progress(95, "Answering")
    return _hand_back(question, found)


def search(bench: Bench, question: Question) -> dict[str, Any]:
    """Return {names: [{name, places}], nearest: [...], mentions: [...]}. Raises Unmeasured."""
    tree = list_files(bench.sandbox)
    modules = docstrings.outline(bench.sandbox, tree.python) if tree.python else []
    index = Index([item | {"path": one["path"]} for one in modules for item in one["items"]])
    names = _names(question, index, tree)
    places = _places(bench, tree, names)
    known = [{"name": name, "places": places[name]} for name in names if places[name]]
    if known:
        return {"names": known, "nearest": [], "mentions": []}
    return {
        "names": [],
        "nearest": [_place(bench, one) for one in index.nearest(question)],
        "mentions": _mentions(bench, tree, question),
    }


def _names(question: Question, index: Index, tree: Tree) -> list[str]:
    """Return the names asked about: those written as code, and words that are definitions."""
    files = {path.rpartition("/")[2] for path in tree.paths}
    written = [name for name in question.names if name not in files]
    defined = [word for word in question.spelled if word not in written and index.named(word)]
    return list(dict.fromkeys([*written, *defined]))[:NAMES]


def _places(bench: Bench, tree: Tree, names: Sequence[str]) -> dict[str, list[Place]]:
    """Return the places of each name: by syntax in Python, by word elsewhere."""
    found: dict[str, list[Place]] = {name: [] for name in names}
    if not names:
        return found
    if tree.python:
        request = {"paths": tree.python, "names": list(names)}
        for place in run_script(bench.sandbox, "references", request):
            for name in names:
                if name.rpartition(".")[2] == place["name"]:
                    found[name].append(place)
    others = [path for path in tree.paths if not path.endswith(".py")]
    for name in names:
        lines = _grep(bench, others, name)
        found[name] += [line | {"kind": "mention", "name": name} for line in lines]
    return {name: sorted(places, key=_reading_order)[:200] for name, places in found.items()}


def _reading_order(place: Place) -> tuple[int, str, int]:
    return list(TITLES).index(place["kind"]), place["path"], place["line"]


def _grep(bench: Bench, paths: Sequence[str], word: str) -> list[Place]:
    """Return the lines of these files that hold a word."""
    if not paths:
        return []
    argv = ["rg", "--no-config", "--null", "--line-number", "--with-filename", "--no-heading",
            "--word-regexp", "--fixed-strings", "--ignore-case", "--max-count", "20",
            "--max-columns", "300", "--sort", "path", "--regexp", word, "--"]  # fmt: skip
    result = run_tool(bench.sandbox, [*argv, *as_arguments(paths)], seconds=60)
    found = []
    for line in result.text.splitlines():
        path, _, rest = line.partition("\0")
        number, _, text = rest.partition(":")
        if number.isdigit():
            found.append({"path": relative(path), "line": int(number), "text": text.strip()[:200]})
    return found


def _mentions(bench: Bench, tree: Tree, question: Question) -> list[Place]:
    """Return the lines that hold most of the question's words."""
    hits: dict[tuple[str, int], Place] = {}
    counts: dict[tuple[str, int], int] = {}
    for word in question.words[:6]:
        for line in _grep(bench, tree.paths, word):
            key = (line["path"], line["line"])
            hits[key] = line
            counts[key] = counts.get(key, 0) + 1
    ranked = sorted(hits, key=lambda key: (-counts[key], key))
    return [hits[key] for key in ranked[:MENTIONS]]


def _place(bench: Bench, item: dict[str, Any]) -> Place:
    lines = bench.sandbox.read(item["path"]).decode("utf-8", "replace").split("\n")
    text = lines[item["line"] - 1].strip()[:200]
    return {"path": item["path"], "line": item["line"], "text": text,
            "name": item["name"], "doc": item["doc"], "kind": "definition"}  # fmt: skip


def _hand_back(question: Question, found: dict[str, Any]) -> Handback:
    if found["names"]:
        sections = [_about(one["name"], one["places"]) for one in found["names"]]
        places = [place for one in found["names"] for place in one["places"][:PLACES]]
        summary = " ".join(_sentence(one["name"], one["places"]) for one in found["names"])
    elif found["nearest"] or found["mentions"]:
        sections = _nearest_sections(found)
        places = [*found["nearest"], *found["mentions"]]
        summary = (
            f"The question names nothing that is defined here; {len(places)} places fit its words."
        )
    else:
        asked = ", ".join(question.names or question.words) or "this question"
        summary = f"Nothing in the repository fits {asked}."
        sections, places = [], []
    cited = {(place["path"], place["line"]): place for place in places}
    citations = [{key: one[key] for key in ("path", "line", "text")} for one in cited.values()]
    content = "\n\n".join([markdown.text(summary), *sections])
    data = {"citations": citations, "names": [one["name"] for one in found["names"]]}
    return Handback("done", summary, content=content, data=data)


def _sentence(name: str, places: Sequence[Place]) -> str:
    defined = [place for place in places if place["kind"] == "definition"] or [
        place for place in places if place["kind"] == "assignment"
    ]
    uses = sum(place["kind"] == "use" for place in places)
    used = f"used in {uses} place{'' if uses == 1 else 's'}"
    if not defined:
        return f"{name} is not defined in the repository; {used}."
    more = f" and {len(defined) - 1} more" if len(defined) > 1 else ""
    return f"{name} is defined at {defined[0]['path']}:{defined[0]['line']}{more}; {used}."


def _about(name: str, places: Sequence[Place]) -> str:
    parts_ = [f"## {markdown.code(name)}"]
    for kind, title in TITLES.items():
        here = [place for place in places if place["kind"] == kind]
        if here:
            more = f"\n- and {len(here) - PLACES} more" if len(here) > PLACES else ""
            parts_.append(f"**{title}**\n\n{_lines(here[:PLACES])}{more}")
    return "\n\n".join(parts_)


def _nearest_sections(found: dict[str, Any]) -> list[str]:
    sections = []
    if found["nearest"]:
        sections.append(f"**Definitions that fit**\n\n{_lines(found['nearest'])}")
    if found["mentions"]:
        sections.append(f"**Lines that fit**\n\n{_lines(found['mentions'])}")
    return sections


def _lines(places: Sequence[Place]) -> str:
    return "\n".join(
        f"- {markdown.place(one['path'], one['line'])} {markdown.code(one['text'])}"
        + (f": {markdown.text(one['doc'])}" if one.get("doc") else "")
        for one in places
    )
