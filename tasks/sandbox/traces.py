"""Whether a tree that a sandbox writes was changed, told from outside by what the kernel keeps of it.

Every change of a file, its name or its attributes moves its ``ctime``, which nobody inside can set.
Look only while no process of the sandbox runs: one that has mapped a file could change it unseen.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tasks.sandbox.watch import listed

MOST_ENTRIES = 3_000
"""A larger tree is looked at as quickly by git itself."""


def traces_of(folder: Path) -> bytes:
    """Return a digest that differs after any change in a tree, or b"" where it cannot be told.

    It cannot for a tree that is too large or where a folder may not be listed. Follows no link.
    """
    digest, left = hashlib.blake2b(digest_size=32), MOST_ENTRIES
    root = str(folder.resolve())
    waiting = [root]
    try:
        while waiting:
            path = waiting.pop()
            digest.update(_trace(path.removeprefix(root), os.lstat(path)))
            with listed(path, root) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        return b""
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(f"{path}/{entry.name}")
                    else:
                        digest.update(_trace(entry.name, entry.stat(follow_symlinks=False)))
    except OSError:
        return b""
    return digest.digest()


def _trace(name: str, info: os.stat_result) -> bytes:
    facts = (info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
    return f"{name}\0{facts}\n".encode("utf-8", "surrogateescape")
