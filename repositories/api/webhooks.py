"""Where GitHub delivers its webhooks. The signature is the credential: nobody signs in here."""

from __future__ import annotations

from django.http import HttpRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from asynccoder.api import limits
from asynccoder.api.shapes import MESSAGE
from asynccoder.lib.errors import AppError, TooLarge
from repositories import webhooks


class GithubWebhook(APIView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(request=OpenApiTypes.OBJECT, responses={200: MESSAGE, 401: None})
    def post(self, request: Request) -> Response:
        """Store a signed delivery once; the work comes after the answer."""
        try:
            webhooks.require_secret()
            given = _given(request._request)
            webhooks.prove(given)
        except AppError:
            limits.limit_webhook(request._request, "")
            raise
        limits.limit_webhook(request._request, f"hook {given.hook_id}")
        webhooks.receive(given)
        return Response({"message": "Webhook processed successfully"})


def _given(request: HttpRequest) -> webhooks.Given:
    headers = request.headers
    return webhooks.Given(
        # DRF's data would parse it before it is proven.
        body=_raw(request),
        signature=headers.get("X-Hub-Signature-256", ""),
        event=headers.get("X-GitHub-Event", ""),
        delivery=headers.get("X-GitHub-Delivery", ""),
        hook_id=headers.get("X-GitHub-Hook-ID", ""),
        is_form=request.content_type == "application/x-www-form-urlencoded",
    )


def _raw(request: HttpRequest) -> bytes:
    """Return the whole body. Raises TooLarge beyond GitHub's own limit."""
    announced = str(request.META.get("CONTENT_LENGTH") or "0")
    if announced.isdecimal() and int(announced) > webhooks.MOST_BYTES:
        raise TooLarge("GitHub sends nothing larger than 25 MB.")
    body: bytes = request.read(webhooks.MOST_BYTES + 1)
    if len(body) > webhooks.MOST_BYTES:
        raise TooLarge("GitHub sends nothing larger than 25 MB.")
    return body
