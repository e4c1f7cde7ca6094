"""The openai SDK's stream, read to its very end.

The SDK stops at ``[DONE]``, before the end of the answer's body. Its connection can then serve
nothing more, and every call of a run would make a new one, with its TLS handshake.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import httpx2
import openai
from openai import Stream
from openai._streaming import ServerSentEvent

REST_SECONDS = 1.0
"""How long a server may take to end an answer that it has said to be done; its line is cut then."""


class WholeStream(Stream[object]):
    """The chunks of one answer."""

    def _iter_events(self) -> Iterator[ServerSentEvent]:
        events = super()._iter_events()
        for event in events:
            if event.data.startswith("[DONE]"):
                _read_rest(events, self.response)
                return
            yield event


def _read_rest(events: Iterator[ServerSentEvent], response: httpx2.Response) -> None:
    """Read what comes after the last chunk; whatever happens to it, the answer is whole."""
    line = response.extensions.get("network_stream")
    end = line.get_extra_info("socket") if line is not None else None
    cut = threading.Timer(REST_SECONDS, _cut, [end])
    cut.daemon = True
    cut.start()
    try:
        for _ in events:
            pass
    except (openai.APIError, httpx2.HTTPError, httpx2.StreamError, OSError):
        pass
    finally:
        cut.cancel()


def _cut(end: socket.socket | None) -> None:
    if end is not None:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
