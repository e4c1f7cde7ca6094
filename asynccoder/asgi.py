"""HTTP and WebSockets.

Programs send no ``Origin``, so it is not required; where a session's cookie decides, a foreign
page's ``Origin`` is refused by ``accounts.sockets``.
"""

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "asynccoder.settings")
http = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402 - after Django's set-up
from django.urls import re_path  # noqa: E402 - after Django's set-up

from tasks import consumers  # noqa: E402 - after Django's set-up


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Close a socket at an address that does not exist."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": consumers.NOT_FOUND})


ROUTES: dict[str, Any] = {
    r"^ws/?$": consumers.feed,
    r"^api/ws/(?P<kind>task|build|analysis)/(?P<task_id>[^/]+)/?$": consumers.task,
    r"": refuse,
}
sockets = URLRouter([re_path(pattern, application) for pattern, application in ROUTES.items()])
application = ProtocolTypeRouter({"http": http, "websocket": sockets})
