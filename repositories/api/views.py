"""Repositories over the API: list, connect, show, edit, disconnect, branches."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from asynccoder.lib.errors import NotAllowed
from repositories import connect, editing, git
from repositories.api.serializers import (
    ConnectSerializer,
    EditSerializer,
    RepositorySerializer,
)
from repositories.models import Repository


class RepositoryViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Repository]
):
    """``?search=`` looks in names and descriptions."""

    serializer_class = RepositorySerializer
    plural = "repositories"
    resource = "repository"

    def get_queryset(self) -> QuerySet[Repository]:
        visible = Repository.objects.visible_to(_user(self.request)).active()
        return visible.matching(self.request.query_params.get("search", ""))

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

    @action(detail=True)
    def branches(self, request: Request, pk: str) -> Response:
        """Return the branches that the remote has now."""
        repository = self.get_object()
        found = connect.branches_of(repository)
        return Response({"branches": [_branch(repository, branch) for branch in found]})


def _user(request: Request) -> User:
    user: User = request.user  # type: ignore[assignment] # the permission class let only users in
    return user


def _credential(values: dict[str, Any]) -> git.Credential | None:
    return git.Credential(values["username"], values["token"]) if values["token"] else None


def _branch(repository: Repository, branch: git.Branch) -> dict[str, Any]:
    is_github = repository.kind == Repository.Kind.GITHUB
    url = f"{repository.web_url}/commit/{branch.commit}" if is_github else ""
    # Whether GitHub protects a branch is only known to its API; the platform pushes to none of these.
    return {
        "name": branch.name,
        "commit": {"sha": branch.commit, "url": url},
        "protected": False,
        "is_default": branch.name == repository.default_branch,
    }
