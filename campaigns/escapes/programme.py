"""The whole programme: every scene that the hostile model plays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from campaigns.escapes.bombs import disks, limits
from campaigns.escapes.scenes import (
    Act,
    Scene,
    families,
    malformed,
    odd_name,
    pushes,
    read_only,
    tools,
    workflow,
)


def all_scenes(target: Mapping[str, Any]) -> dict[str, Scene]:
    files, hidden_files = disks()
    return {
        "families": families(),
        "limits": limits(),
        "files": files,
        "hidden-files": hidden_files,
        "tools": tools(target),
        "malformed": malformed(),
        "pushes": pushes(target),
        "workflow": workflow(),
        "odd-name": odd_name(),
        "read-only": read_only(),
    }


def acts_with_words(scenes: Mapping[str, Scene]) -> list[Act]:
    return [act for scene in scenes.values() for act in scene.acts if act.words]
