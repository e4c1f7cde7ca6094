"""Models, trials of them, and the user's own provider keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from accounts.models import User
from aimodels import access, keys, own, trial
from aimodels.api.serializers import (
    AIModelSerializer,
    KeyProviderSerializer,
    KeyUsageFilter,
    KeyUsageSerializer,
    OwnModelSerializer,
    ProviderKeySerializer,
    TrialSerializer,
)
from aimodels.api.shapes import TRIAL, ModelWithUsageSerializer
from aimodels.models import (
    AIModel,
    AIModelQuerySet,
    KeyProvider,
    KeyUsage,
    KeyUsageQuerySet,
    ModelUsage,
    ProviderKey,
    ProviderKeyQuerySet,
)
from aimodels.prices import MICROCREDITS
from asynccoder.api.permissions import NotByAccessKey
from asynccoder.lib.errors import NotFound

USAGE_DAYS = 30


class ModelViewSet(ListModelMixin, GenericViewSet[AIModel]):
    """The platform's models and the user's own; the user adds, edits and removes the latter."""

    serializer_class = AIModelSerializer
    plural = "models"
    default_limit = 100

    def get_queryset(self) -> AIModelQuerySet:
        return AIModel.objects.shown_to(self._user)

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(_shown(page or [], self._user))

    @extend_schema(responses=ModelWithUsageSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """Show a model, and what the user's own runs used of it in 30 days."""
        model = self._model(pk)
        return Response(_shown([model], self._user)[0] | {"usage": _usage(model, self._user)})

    @extend_schema(request=OwnModelSerializer, responses={201: AIModelSerializer})
    def create(self, request: Request) -> Response:
        given = OwnModelSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        model = own.add(owner=self._user, values=given.validated_data)
        return Response(_shown([model], self._user)[0], status=201)

    @extend_schema(request=OwnModelSerializer(partial=True), responses=AIModelSerializer)
    def update(self, request: Request, pk: str) -> Response:
        model = self._model(pk)
        given = OwnModelSerializer(data=request.data, partial=True)
        given.is_valid(raise_exception=True)
        own.edit(model, by=self._user, values=given.validated_data)
        return Response(_shown([model], self._user)[0])

    def destroy(self, request: Request, pk: str) -> Response:
        own.remove(self._model(pk), by=self._user)
        return Response(status=204)

    @extend_schema(request=TrialSerializer, responses={200: TRIAL})
    def test(self, request: Request) -> Response:
        """Try the model once and say how it went; a failure is a verdict, not an error."""
        given = TrialSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        model = self._named(given.validated_data)
        verdict = trial.attempt(model, self._user)
        return Response(
            {
                "model_id": model.pk,
                "name": model.name,
                "works": verdict.works,
                "outcome": verdict.outcome,
                "message": verdict.message,
                "latency_ms": round(verdict.seconds * 1000),
            }
        )

    @property
    def _user(self) -> User:
        return cast("User", self.request.user)

    def _model(self, pk: str) -> AIModel:
        model: AIModel = get_object_or_404(AIModel.objects.visible_to(self._user), pk=pk)
        return model

    def _named(self, given: dict[str, Any]) -> AIModel:
        wanted = {"pk": given["model_id"]} if "model_id" in given else {"name": given["name"]}
        # Of two models with one name the user's own is meant.
        found = AIModel.objects.for_use_by(self._user).filter(**wanted).order_by("owner_id")
        model = found.exclude(owner=None).first() or found.first()
        if model is None:
            raise NotFound("There is no such model.")
        return model


def _shown(models: list[AIModel], user: User) -> list[dict[str, Any]]:
    usable = {model.pk for model in access.usable(models, user)}
    context = {"user": user, "usable": usable}
    return [dict(row) for row in AIModelSerializer(models, many=True, context=context).data]


def _usage(model: AIModel, user: User) -> dict[str, Any]:
    first = timezone.now().date() - timedelta(days=USAGE_DAYS - 1)
    own = ModelUsage.objects.visible_to(user).filter(user=user, model=model)
    sums = own.since(first).totals()
    charged, duration = sums.pop("charged_microcredits"), sums.pop("duration_ms")
    return sums | {
        "days": USAGE_DAYS,
        "credits_used": charged / MICROCREDITS,
        "average_duration_ms": round(duration / sums["calls"]) if sums["calls"] else None,
    }


class KeyProviderViewSet(ListModelMixin, GenericViewSet[KeyProvider]):
    """Whose keys may be stored here."""

    serializer_class = KeyProviderSerializer
    queryset = KeyProvider.objects.filter(is_active=True)
    plural = "providers"


@extend_schema_view(list=extend_schema(parameters=[KeyUsageFilter]))
class KeyUsageViewSet(ListModelMixin, GenericViewSet[KeyUsage]):
    """What the user's own keys were used for, newest first; keys that were removed included."""

    serializer_class = KeyUsageSerializer
    plural = "usage"

    def get_permissions(self) -> list[Any]:
        return [*super().get_permissions(), NotByAccessKey()]

    def get_queryset(self) -> KeyUsageQuerySet:
        wanted = KeyUsageFilter(data=self.request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        own: KeyUsageQuerySet = KeyUsage.objects.visible_to(cast("User", self.request.user))
        return own.filter(**wanted.validated_data)


class ProviderKeyViewSet(ListModelMixin, GenericViewSet[ProviderKey]):
    """Keys for AI providers: written, replaced, switched off, removed; returned masked."""

    serializer_class = ProviderKeySerializer
    plural = "api_keys"

    def get_queryset(self) -> ProviderKeyQuerySet:
        return ProviderKey.objects.visible_to(self._user)

    def get_permissions(self) -> list[Any]:
        return [*super().get_permissions(), NotByAccessKey()]

    def retrieve(self, request: Request, pk: str) -> Response:
        return Response(self.get_serializer(self._key(pk)).data)

    def create(self, request: Request) -> Response:
        given = self._given(partial=False)
        key = keys.add(
            user=self._user,
            provider=given["provider"],
            plain=given["key"],
            name=given.get("name", ""),
        )
        return Response(self.get_serializer(key).data, status=201)

    @extend_schema(request=ProviderKeySerializer(partial=True))
    def update(self, request: Request, pk: str) -> Response:
        key = self._key(pk)
        given = self._given(partial=True)
        if "key" in given:
            keys.replace(key, plain=given["key"])
        keys.edit(key, name=given.get("name"), is_active=given.get("is_active"))
        return Response(self.get_serializer(key).data)

    def destroy(self, request: Request, pk: str) -> Response:
        self._key(pk).delete()
        return Response(status=204)

    @property
    def _user(self) -> User:
        return cast("User", self.request.user)

    def _key(self, pk: str) -> ProviderKey:
        return get_object_or_404(self.get_queryset(), pk=pk)

    def _given(self, *, partial: bool) -> dict[str, Any]:
        serializer = self.get_serializer(data=self.request.data, partial=partial)
        serializer.is_valid(raise_exception=True)
        return dict(serializer.validated_data)
