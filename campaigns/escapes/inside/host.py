"""Attempts on files of the host, the platform and another tenant."""

from __future__ import annotations

import os
from pathlib import Path

from campaigns.escapes.inside.looking import Attempt, Target, first_open, holds, touched


def symbolic_link(target: Target) -> str:
    Path("way-out").symlink_to(target["file"])
    return "followed" if holds(Path("way-out"), target["canary"]) else ""


def magic_links(target: Target) -> str:
    up = "../" * 12
    ways = [f"/proc/self/root{target['file']}", f"/proc/self/cwd/{up}{target['file']}"]
    here = os.open(".", os.O_RDONLY)
    ways += [f"/proc/self/fd/{here}/{up}{target['file']}", f"{up}{target['file']}"]
    return next((way for way in ways if holds(Path(way), target["canary"])), "")


def shadow_file(_target: Target) -> str:
    return first_open(["/etc/shadow"], os.O_RDONLY)


def host_name(target: Target) -> str:
    return target["hostname"] if os.uname().nodename == target["hostname"] else ""


def platform_files(target: Target) -> str:
    """Open the platform's own settings, database or secrets."""
    return first_open(target["platform"], os.O_RDONLY)


def foreign_mirror(target: Target) -> str:
    return first_open(target["foreign_mirror"], os.O_RDONLY)


def foreign_task(target: Target) -> str:
    return first_open(target["foreign_task"], os.O_RDONLY)


def system_folders(_target: Target) -> str:
    return touched(["/", "/usr", "/usr/bin", "/etc", "/var", "/dev", "/proc", "/run", "/home"])


def toolchain(target: Target) -> str:
    return touched(target["toolchain"])


def own_mirror(target: Target) -> str:
    """Write into the mirror that the workspace borrows its objects from."""
    return touched(target["mirror"])


ATTEMPTS: list[Attempt] = [
    symbolic_link, magic_links, shadow_file, host_name, platform_files, foreign_mirror,
    foreign_task, system_folders, toolchain, own_mirror,
]  # fmt: skip
