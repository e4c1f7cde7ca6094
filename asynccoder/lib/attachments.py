"""Answers that a browser keeps as a file and never shows: what users made is not our page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import IO
from urllib.parse import quote

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

PIECE = 256 * 1024
TEXT = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"


def attachment(body: str | bytes, name: str, content_type: str = BINARY) -> HttpResponse:
    return HttpResponse(body, content_type=content_type, headers=_headers(name))


def file_attachment(
    request: HttpRequest, file: IO[bytes], name: str, content_type: str = BINARY
) -> StreamingHttpResponse:
    """Answer with a file in pieces; the answer closes it.

    ``request`` tells which server asks.
    """
    # Django would read the whole of a plain iterator into memory before it serves it under ASGI.
    is_async = isinstance(request, ASGIRequest)
    pieces = AsyncPieces(file) if is_async else Pieces(file)
    return StreamingHttpResponse(pieces, content_type=content_type, headers=_headers(name))


def _headers(name: str) -> dict[str, str]:
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    exact = f"; filename*=utf-8''{quote(name, safe='')}" if plain != name else ""
    return {
        "Content-Disposition": f'attachment; filename="{plain}"{exact}',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }


@dataclass(frozen=True, slots=True)
class Pieces:
    """A file that is read as it is sent; ``close`` also ends one that nobody reads."""

    file: IO[bytes]

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.file.read(PIECE):
            yield piece

    def close(self) -> None:
        self.file.close()


@dataclass(frozen=True, slots=True)
class AsyncPieces:
    """The same for a server that must not wait for a disk."""

    file: IO[bytes]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = sync_to_async(self.file.read)
        while piece := await read(PIECE):
            yield piece

    def close(self) -> None:
        self.file.close()
