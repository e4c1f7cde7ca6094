"""Repositories over the API: list, connect, show, edit, disconnect, branches."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from asynccoder.api.shapes import shape, words
from asynccoder.lib.attachments import file_attachment
from asynccoder.lib.errors import LimitReached, NotAllowed, NotFound
from asynccoder.lib.places import Places
from repositories import connect, editing, git, github_access, hosted
from repositories.api.serializers import (
    ConnectSerializer,
    EditSerializer,
    ListFilter,
    RepositorySerializer,
    SyncSerializer,
)
from repositories.forges.github import BranchFacts
from repositories.models import Repository
from repositories.sync import sync_from_github

READS_PER_USER = 4
"""How many requests of one user may wait for git or GitHub at once: each holds a thread here."""
reads = Places()

BRANCH = shape(
    "Branch",
    name=serializers.CharField(),
    commit=words("BranchCommit", "sha", "url"),
    protected=serializers.BooleanField(),
    is_default=serializers.BooleanField(),
)
BRANCHES = shape("Branches", branches=serializers.ListField(child=BRANCH))
SYNCED = shape(
    "Synced",
    synced=serializers.IntegerField(),
    added=serializers.IntegerField(),
    updated=serializers.IntegerField(),
    message=serializers.CharField(),
)


@extend_schema_view(list=extend_schema(parameters=[ListFilter, OpenApiParameter("search")]))
class RepositoryViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Repository]
):
    """Repositories; ``search`` looks in names and descriptions, ``connected`` at what GitHub shows."""

    serializer_class = RepositorySerializer
    plural = "repositories"
    resource = "repository"

    def get_queryset(self) -> QuerySet[Repository]:
        visible = Repository.objects.visible_to(_user(self.request)).active()
        rows = visible.select_related("owner__github_account")
        return _narrowed(rows, self.request) if self.action == "list" else rows

    @extend_schema(request=ConnectSerializer, responses={201: RepositorySerializer})
    def create(self, request: Request) -> Response:
        """Connect a repository once it has been reached with the credential."""
        body = ConnectSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        repository = connect.connect_repository(
            owner=_user(request),
            url=body.validated_data["url"],
            name=body.validated_data["name"],
            credential=_credential(body.validated_data),
            default_branch=body.validated_data["default_branch"],
        )
        return Response(self.get_serializer(repository).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=EditSerializer, responses=RepositorySerializer)
    def edit(self, request: Request, pk: str) -> Response:
        """Change its commands or its network list."""
        repository = self.get_object()
        body = EditSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        editing.edit_repository(repository, by=_user(request), **body.validated_data)
        return Response(self.get_serializer(repository).data)

    def destroy(self, request: Request, pk: str) -> Response:
        repository = self.get_object()
        if not _user(request).is_admin and repository.owner_id != _user(request).pk:
            raise NotAllowed("Only its owner may disconnect a repository.")
        connect.disconnect_repository(repository)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=SyncSerializer, responses=SYNCED)
    def sync(self, request: Request) -> Response:
        """Make the list follow what the user's GitHub account reaches."""
        body = SyncSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        with _one_of_few(request):
            done = sync_from_github(_user(request), force=body.validated_data["force"])
        counts = {"synced": done.synced, "added": done.added, "updated": done.updated}
        return Response(counts | {"message": done.message})

    @extend_schema(responses={200: BRANCHES, 400: None})
    @action(detail=True)
    def branches(self, request: Request, pk: str) -> Response:
        """Return the branches that the remote has now; only GitHub says which it protects."""
        repository = self.get_object()
        with _one_of_few(request):
            found = github_access.branches_of(repository)
            if found is None:
                plain = connect.branches_of(repository)
                found = [BranchFacts(one.name, one.commit, is_protected=False) for one in plain]
        return Response({"branches": [_branch(repository, branch) for branch in found]})

    @extend_schema(responses={(200, "application/octet-stream"): OpenApiTypes.BINARY, 400: None})
    def bundle(self, request: Request, pk: str) -> StreamingHttpResponse:
        """Return all branches of a hosted repository as a bundle: ``git clone NAME.bundle``."""
        repository = self._hosted()
        file = hosted.open_bundle(repository)
        return file_attachment(request._request, file, f"{repository.name}.bundle")

    @extend_schema(responses={(200, "application/zip"): OpenApiTypes.BINARY, 400: None})
    def zip_file(self, request: Request, pk: str) -> StreamingHttpResponse:
        """Return the files of a hosted repository's default branch as a zip."""
        repository = self._hosted()
        with _one_of_few(request):
            file = hosted.open_zip(repository, connect.mirror_path(repository))
        name = f"{repository.name}.zip"
        return file_attachment(request._request, file, name, "application/zip")

    def _hosted(self) -> Repository:
        repository = self.get_object()
        if repository.kind != Repository.Kind.HOSTED:
            raise NotFound("This repository is hosted elsewhere; fetch it from its own address.")
        return repository


def _narrowed(rows: Any, request: Request) -> Any:
    asked = ListFilter(data=request.query_params)
    asked.is_valid(raise_exception=True)
    connected = asked.validated_data["connected"]
    if connected is not None:
        rows = rows.connected() if connected else rows.unconnected()
    return rows.matching(request.query_params.get("search", ""))


def _user(request: Request) -> User:
    user: User = request.user  # type: ignore[assignment] # the permission class let only users in
    return user


def _one_of_few(request: Request) -> AbstractContextManager[None]:
    """Hold one of the user's places while git or GitHub works. Raises LimitReached."""
    refusal = LimitReached("You read too many repositories at once; try again.", retry_after=5)
    return reads.taken(_user(request).pk, READS_PER_USER, refusal)


def _credential(values: dict[str, Any]) -> git.Credential | None:
    return git.Credential(values["username"], values["token"]) if values["token"] else None


def _branch(repository: Repository, branch: BranchFacts) -> dict[str, Any]:
    is_github = repository.kind == Repository.Kind.GITHUB
    url = f"{repository.web_url}/commit/{branch.commit}" if is_github else ""
    return {
        "name": branch.name,
        "commit": {"sha": branch.commit, "url": url},
        "protected": branch.is_protected,
        "is_default": branch.name == repository.default_branch,
    }
