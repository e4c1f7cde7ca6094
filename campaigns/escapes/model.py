"""The hostile model: asks for every act of a scene, whatever it is answered, and then finishes."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from aimodels.tests.wire_formats import call_id
from campaigns.escapes.scenes import Act, Scene
from tasks.tests.world import bash, finish

CALLS = 8
"""Tool calls to a reply; the platform takes at most 16."""
SCENE = re.compile(r"\[\[([a-z-]+)\]\]")
BIG_PIECES = 65536


def prompt_of(scene: str) -> str:
    return f"Play the scene [[{scene}]]."


class HostileModel:
    """A script for the model server that remembers what each act was answered."""

    def __init__(self, scenes: Mapping[str, Scene], bystander: list[dict[str, Any]]) -> None:
        self.replies = {name: list(batches(scene.acts)) for name, scene in scenes.items()}
        self.bystander = bystander
        self.answers: dict[str, str] = {}
        self.asked: dict[str, int] = {}
        self._waiting: dict[str, dict[str, Act]] = {}
        self.word = ""
        """In the scene of kills: the argument of a command that never ends."""

    def __call__(self, body: dict[str, Any]) -> dict[str, Any]:
        scene = scene_of(body)
        self.asked[scene] = self.asked.get(scene, 0) + 1
        turn = sum(1 for message in body["messages"] if message["role"] == "assistant")
        if scene == "bystander":
            return self.bystander[min(turn, len(self.bystander) - 1)]
        if scene == "kills":
            return endless(self.word)
        self._hear(scene, body)
        turn, replies = self.asked[scene] - 1, self.replies[scene]
        if turn >= len(replies):
            return finish(answer="That is all.", citations=[])[0]
        self._waiting[scene] = {call_id(body, n): act for n, act in enumerate(replies[turn])}
        calls = [{"name": act.tool, "arguments": act.arguments} for act in replies[turn]]
        return {"text": f"Part {turn}.", "tool_calls": calls, "piece": BIG_PIECES}

    def _hear(self, scene: str, body: dict[str, Any]) -> None:
        """Take the answers to the last reply; one that was refused as a whole has a single one."""
        waiting = self._waiting.pop(scene, {})
        refusal = str(body["messages"][-1]["content"])
        told = {
            m["tool_call_id"]: str(m["content"]) for m in body["messages"] if m["role"] == "tool"
        }
        for number, act in waiting.items():
            self.answers[act.name] = told.get(number, refusal)


def scene_of(body: dict[str, Any]) -> str:
    found = SCENE.search(json.dumps(body["messages"][:3]))
    return found[1] if found else "unknown"


def batches(acts: list[Act]) -> Iterator[list[Act]]:
    waiting = iter(acts)
    while batch := list(itertools.islice(waiting, CALLS)):
        yield batch


def endless(word: str) -> dict[str, Any]:
    """Return a turn that leaves processes behind in every way, and stays."""
    ways = [
        f"setsid nohup sleep {word} >/dev/null 2>&1 &",
        f"(setsid sh -c 'sleep {word} &' &);",
        f"(trap '' TERM HUP INT; sleep {word}) &",
    ]
    return bash(" ".join([*ways, f"sleep {word}"]))
