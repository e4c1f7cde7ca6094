"""Routes of both dialects that answer as they are told: what the tests of the dialects ask."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.core.exceptions import ValidationError as ModelValidationError
from django.db import DataError, IntegrityError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path, re_path
from django_ratelimit.exceptions import Ratelimited
from rest_framework import exceptions, mixins, serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from asynccoder.api import errors as api_errors
from asynccoder.api.dialects import Foreign
from asynccoder.lib import errors

handler400 = "asynccoder.api.errors.bad_request"
handler403 = "asynccoder.api.errors.permission_denied"
handler404 = "asynccoder.api.errors.not_found"
handler500 = "asynccoder.api.errors.server_error"

SECRET = "SELECT secret FROM /srv/path"


class CloneFailed(errors.RunFailed):
    """The repository could not be cloned."""

    code = "CLONE_FAILED"


RAISED: dict[str, Exception] = {
    "app": errors.AppError("Bad idea.", details={"why_not": "because"}),
    "unsigned": errors.NotSignedIn(),
    "unallowed": errors.NotAllowed(),
    "missing": errors.NotFound(),
    "conflict": errors.Conflict(),
    "credit": errors.OutOfCredit(),
    "large": errors.TooLarge(),
    "limit": errors.LimitReached(retry_after=7.2),
    "run": CloneFailed(),
    "busy": errors.TryAgain(retry_after=3),
    "invalid": exceptions.ValidationError({"display_name": ["Too long."], "n": {"m": ["No."]}}),
    "invalid_list": exceptions.ValidationError(["No."]),
    "parse": exceptions.ParseError(),
    "model": ModelValidationError({"name": ["Taken."]}),
    "anonymous": exceptions.NotAuthenticated(),
    "failed": exceptions.AuthenticationFailed(),
    "denied": exceptions.PermissionDenied(),
    "django_denied": PermissionDenied(SECRET),
    "ratelimited": Ratelimited(),
    "throttled": exceptions.Throttled(wait=9.5),
    "absent": exceptions.NotFound(),
    "django_absent": Http404(SECRET),
    "suspicious": SuspiciousOperation(SECRET),
    "too_big": RequestDataTooBig(SECRET),
    "constraint": IntegrityError(SECRET),
    "data": DataError(SECRET),
    "database": OperationalError(SECRET),
    "bug": RuntimeError(SECRET),
}


class Raise(APIView):
    permission_classes = (AllowAny,)

    def get(self, request: Request, name: str) -> Response:
        raise RAISED[name]


class Echo(APIView):
    """Answers with what the view saw."""

    permission_classes = (AllowAny,)

    def get(self, request: Request) -> Response:
        return Response(
            {
                "query": [[name, value] for name, value in request.query_params.items()],
                "created_at": "now",
                "parameters": {"our_key": 1},
                "github_user": {"avatar_url": "x"},
                "owner": Foreign({"avatar_url": "x"}),
                "step_2_name": [{"is_done": True}],
            }
        )

    def post(self, request: Request) -> Response:
        return Response({"keys": sorted(request.data), "seen": repr(request.data)})

    def delete(self, request: Request) -> Response:
        return Response(status=204)


class Groups(mixins.ListModelMixin, GenericViewSet[Group]):
    permission_classes = (AllowAny,)
    queryset = Group.objects.order_by("name")
    plural = "groups"

    def get_serializer_class(self) -> Any:
        class GroupSerializer(serializers.ModelSerializer[Group]):
            class Meta:
                model = Group
                fields = ["name"]

        return GroupSerializer


def crash(request: HttpRequest) -> HttpResponse:
    raise RuntimeError(SECRET)


def deny(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied(SECRET)


def suspect(request: HttpRequest) -> HttpResponse:
    raise SuspiciousOperation(SECRET)


things = [
    path("things/raise/<str:name>", Raise.as_view()),
    path("things/echo", Echo.as_view()),
    path("things/groups", Groups.as_view({"get": "list"})),
    path("things/crash", crash),
    path("things/deny", deny),
    path("things/suspect", suspect),
]
urlpatterns = [
    path("api/v1/", include(things)),
    path("api/build/", include(things)),
    path("api/", include(things)),
    re_path(r"^(?:api|auth)(?:/.*)?$", api_errors.no_route),
]
