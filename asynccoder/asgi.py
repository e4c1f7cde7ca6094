"""HTTP and WebSockets.

Programs send no ``Origin``, so it is not required; where a session's cookie decides, a foreign
page's ``Origin`` is refused by ``accounts.sockets``.
"""

import os
import sys
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asynccoder.settings")
http = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402 - after Django's set-up
from daphne.access import AccessLogGenerator  # noqa: E402 - after Django's set-up
from django.urls import re_path  # noqa: E402 - after Django's set-up

from asynccoder.flow import Steady  # noqa: E402 - after Django's set-up
from asynccoder.intake import BoundedRequest  # noqa: E402 - after Django's set-up
from asynccoder.middleware import SocketLog  # noqa: E402 - after Django's set-up
from tasks import consumers, following  # noqa: E402 - after Django's set-up
from tasks.streams import Streams  # noqa: E402 - after Django's set-up


class AccessLog(AccessLogGenerator):  # type: ignore[misc] # daphne has no types
    """Daphne's access log without queries: a token may stand in them."""

    def write_entry(self, *, request: str, **details: Any) -> None:
        super().write_entry(request=request.partition("?")[0], **details)


# Daphne makes both after it has read this module, and offers no way to say which.
if "daphne.cli" in sys.modules:
    vars(sys.modules["daphne.cli"])["AccessLogGenerator"] = AccessLog
    vars(sys.modules["daphne.http_protocol"])["WebRequest"] = BoundedRequest


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Close a socket at an address that does not exist."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": following.NOT_FOUND})


ROUTES: dict[str, Any] = {
    r"^ws/?$": consumers.feed,
    r"^api/ws/(?P<kind>task|build|analysis)/(?P<task_id>[^/]+)/?$": consumers.task,
    r"": refuse,
}
sockets = URLRouter([re_path(pattern, application) for pattern, application in ROUTES.items()])
application = Steady(ProtocolTypeRouter({"http": Streams(http), "websocket": SocketLog(sockets)}))
