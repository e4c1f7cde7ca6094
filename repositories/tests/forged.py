"""Packs that no honest git makes: what an attacker in a sandbox, or at the other end, hands over."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import zlib
from collections.abc import Callable

from repositories.git.store import COMMIT
from repositories.tests.make import Bench, plain_git


class Forge:
    """Makes any object at all, and packs of them, as an attacker in a sandbox can."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[int, bytes]] = {}

    def add(self, kind: str, content: bytes) -> str:
        name = hashlib.sha1(b"%s %d\0" % (kind.encode(), len(content)) + content).hexdigest()
        self.objects[name] = ({"commit": 1, "tree": 2, "blob": 3}[kind], content)
        return name

    def blob(self, content: bytes = b"x\n") -> str:
        return self.add("blob", content)

    def tree(self, *entries: tuple[str, str | bytes, str]) -> str:
        """Each entry is mode, name and object."""
        lines = []
        for mode, name, target in entries:
            raw = name if isinstance(name, bytes) else name.encode()
            lines.append(mode.encode() + b" " + raw + b"\0" + bytes.fromhex(target))
        return self.add("tree", b"".join(lines))

    def commit(self, tree: str, parent: str) -> str:
        return self.add("commit", COMMIT.format(tree=tree, parent=parent).encode())

    def pack(self, *, copies: int = 1) -> bytes:
        """Return a pack that holds each object so many times."""
        parts = []
        for kind, content in self.objects.values():
            size = len(content)
            head = [(kind << 4) | (size & 15)]
            size >>= 4
            while size:
                head[-1] |= 128
                head.append(size & 127)
                size >>= 7
            parts.append(bytes(head) + zlib.compress(content, 1))
        count = len(parts) * copies
        body = b"".join([b"PACK", struct.pack(">II", 2, count), *parts * copies])
        return body + hashlib.sha1(body).digest()

    def output(self, tree: str, parent: str) -> bytes:
        commit = self.commit(tree, parent)
        return f"{commit} {tree}\n".encode() + self.pack()


def is_taken_by_plain_git(bench: Bench, output: bytes) -> bool:
    """The control: git itself, without our checks, takes the pack."""
    pack = output.partition(b"\n")[2]
    try:
        plain_git("index-pack", "--stdin", "--fix-thin", cwd=bench.store, stdin=pack)
    except subprocess.CalledProcessError:
        return False
    return True


Attack = Callable[[Forge, str], str]


def entry(mode: str, name: str | bytes) -> Attack:
    return lambda forge, base: forge.tree((mode, name, forge.blob()))


def below(folder: str | bytes) -> Attack:
    return lambda forge, base: forge.tree(
        ("40000", folder, forge.tree(("100644", "config", forge.blob())))
    )


def gitlink(forge: Forge, base: str) -> str:
    return forge.tree(("160000", "module", base))


def doubled(forge: Forge, base: str) -> str:
    return forge.tree(("100644", "a", forge.blob()), ("120000", "a", forge.blob(b"/etc")))


def unsorted(forge: Forge, base: str) -> str:
    return forge.tree(("100644", "b", forge.blob()), ("100644", "a", forge.blob()))


def link_and_folder(forge: Forge, base: str) -> str:
    inner = forge.tree(("100644", "passwd", forge.blob()))
    return forge.tree(("120000", "a", forge.blob(b"/etc")), ("40000", "a", inner))


def nested(depth: int) -> Attack:
    def make(forge: Forge, base: str) -> str:
        tree = forge.tree(("100644", "x", forge.blob()))
        for _ in range(depth):
            tree = forge.tree(("40000", "d", tree))
        return tree

    return make


def exponential(forge: Forge, base: str) -> str:
    """Ten trees that name ten to the tenth files."""
    tree = forge.tree(*(("100644", f"f{number}", forge.blob()) for number in range(10)))
    for _ in range(9):
        tree = forge.tree(*(("40000", f"d{number}", tree) for number in range(10)))
    return tree


def large_blob(forge: Forge, base: str) -> str:
    return forge.tree(("100644", "zeroes", forge.blob(b"\0" * (5 * 1024**2))))


def many_large_blobs(forge: Forge, base: str) -> str:
    blobs = [forge.blob(bytes([number]) * 3 * 1024**2) for number in range(3)]
    return forge.tree(*(("100644", f"f{number}", name) for number, name in enumerate(blobs)))


def many_objects(forge: Forge, base: str) -> str:
    for number in range(250):
        forge.blob(b"%d" % number)
    return forge.tree(("100644", "a", forge.blob()))


def many_files(forge: Forge, base: str) -> str:
    blob = forge.blob()
    return forge.tree(*(("100644", f"f{number:04}", blob) for number in range(101)))


ATTACKS: dict[str, Attack] = {
    "gitlink": gitlink,
    "dot git": below(".git"),
    "dot GIT": below(".GIT"),
    "dot git file": entry("100644", ".git"),
    "dot git with a space": below(".git "),
    "dot git with dots": below(".git..."),
    "dot git with an ignorable": below(".g\u200cit"),
    "dot git deep below": lambda f, b: f.tree(("40000", "a", below(".gIt")(f, b))),
    "short name of dot git": below("git~1"),
    "parent folder": below(".."),
    "this folder": below("."),
    "empty name": below(""),
    "slash in a name": entry("100644", "../../outside"),
    "absolute name": entry("100644", "/etc/passwd"),
    "escape in a name": entry("100644", "a\x1b]0;x\x07"),
    "newline in a name": entry("100644", "a\nb"),
    "delete in a name": entry("100644", "a\x7f"),
    "name too long": entry("100644", "a" * 256),
    "odd mode": entry("100600", "a"),
    "device mode": entry("60000", "a"),
    "set user id": entry("104755", "a"),
    "two entries of one name": doubled,
    "link and folder of one name": link_and_folder,
    "unsorted": unsorted,
    "nested too deep": nested(25),
    "exponential": exponential,
    "large blob": large_blob,
    "many large blobs": many_large_blobs,
    "many objects": many_objects,
    "many files": many_files,
}  # fmt: skip
