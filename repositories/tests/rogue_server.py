"""A git server on loopback that lies: it says what it is told to, byte by byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from pathlib import Path

from asynccoder.tests.loopback import answering, listening
from repositories.tests.git_server import Seen, read_body

ADVERTISED = "application/x-git-upload-pack-advertisement"
ANSWERED = "application/x-git-upload-pack-result"
CAPABILITIES = "side-band-64k ofs-delta shallow"
LARGEST = 65515
"""Bytes of a pack in one packet."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; its pieces may be without end."""

    pieces: Iterable[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


@dataclass
class RogueServer:
    """Gives ``answer`` for a request's path and body. What it heard and how much it sent is kept."""

    answer: Callable[[str, bytes], Answer]
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    sent: int = 0
    is_closing: bool = False

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, name: str = "acme/app.git") -> str:
        return f"http://{self.address}/{name}"

    def hear(self, handler: BaseHTTPRequestHandler) -> None:
        self.seen.append(
            Seen(handler.command, handler.path, handler.headers.get("Authorization", ""))
        )
        answer = self.answer(handler.path, read_body(handler))
        try:
            handler.send_response(answer.status)
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            for piece in answer.pieces:
                if self.is_closing:
                    return
                handler.wfile.write(piece)
                self.sent += len(piece)
        except OSError:
            return


@contextmanager
def lying(answer: Callable[[str, bytes], Answer]) -> Iterator[RogueServer]:
    """Run a server for the block."""
    rogue = RogueServer(answer)

    with listening(answering(rogue.hear)) as rogue.port:
        try:
            yield rogue
        finally:
            rogue.is_closing = True


@contextmanager
def serving_files(root: Path) -> Iterator[str]:
    """Serve plain files, as a server that only knows git's old "dumb" protocol; yield its address."""

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(root))  # type: ignore[arg-type] # the three of a handler

        def log_message(self, *args: object) -> None:
            pass

    with listening(Handler) as port:
        yield f"127.0.0.1:{port}"


def packet(content: bytes) -> bytes:
    return b"%04x" % (len(content) + 4) + content


def advertised(refs: Mapping[str, str], *, capabilities: str = CAPABILITIES) -> bytes:
    """Return what a server says of its refs (name → commit)."""
    lines = [f"{commit} {name}".encode("utf-8", "surrogateescape") for name, commit in refs.items()]
    lines[0] += b"\0" + capabilities.encode()
    parts = [packet(b"# service=git-upload-pack\n"), b"0000"]
    return b"".join([*parts, *(packet(line + b"\n") for line in lines), b"0000"])


def upstream(
    refs: Mapping[str, str], pack: bytes = b"", *, said: bytes = b""
) -> Callable[[str, bytes], Answer]:
    """Return the answers of a server with these refs, which gives ``pack`` for whatever is asked."""

    def answer(path: str, body: bytes) -> Answer:
        if "info/refs" in path:
            return Answer([advertised(refs)], {"Content-Type": ADVERTISED})
        pieces = [b"0000"] if b"deepen" in body else []
        if b"done" in body:
            pieces += [packet(b"NAK\n")]
            pieces += [packet(b"\2" + said)] if said else []
            pieces += [
                packet(b"\1" + pack[place : place + LARGEST])
                for place in range(0, len(pack), LARGEST)
            ]
            pieces += [b"0000"]
        return Answer(pieces, {"Content-Type": ANSWERED})

    return answer
