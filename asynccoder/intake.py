"""How much of a request daphne takes in, before anybody has looked at who sends it.

Daphne reads every body to its end, into a file, and Twisted parses forms in memory on top of that:
anybody could fill a disk, or the memory of the server, with one request.
"""

from __future__ import annotations

from typing import Any

from daphne.http_protocol import WebRequest
from django.conf import settings

WEBHOOK_BYTES = 25 * 1024**2
"""GitHub's own limit of a payload, the largest body that any route takes but for REQUEST_MAX_BYTES."""
SLACK_BYTES = 1024**2
"""What is a little too large reaches the views, which refuse it in their dialect."""
REFUSAL = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class BoundedRequest(WebRequest):  # type: ignore[misc] # daphne has no types
    """A request whose connection is closed when its body is larger than any route takes."""

    is_refused = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Nobody reads what Twisted would find in a form.
        super().__init__(*args, **kwargs, parsePOSTFormSubmission=False)

    def gotLength(self, length: int | None) -> None:  # noqa: N802 - Twisted's name
        super().gotLength(None if length is None else min(length, most_bytes() + 1))
        if length is not None and length > most_bytes():
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        if self.is_refused:
            return
        if self.content.tell() + len(data) > most_bytes():
            self._refuse()
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802 - Twisted's name
        if not self.is_refused:
            super().requestReceived(command, path, version)

    def process(self) -> None:
        """Hand the request on, without two headers that nobody of ours sends.

        A client's Daphne-Root-Path would move every address to where the rules of a proxy do not
        look, and daphne answers 500 where either is not ASCII.
        """
        for name in (b"Daphne-Root-Path", b"Sec-WebSocket-Protocol"):
            self.requestHeaders.removeHeader(name)
        super().process()

    def _refuse(self) -> None:
        self.is_refused = True
        self.channel.transport.write(REFUSAL)
        self.channel.loseConnection()


def most_bytes() -> int:
    return int(max(settings.REQUEST_MAX_BYTES, WEBHOOK_BYTES)) + SLACK_BYTES
