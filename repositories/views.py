"""The pages of repositories."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.models import GithubAccount, User
from asynccoder.lib.errors import AppError
from repositories import connect, editing
from repositories.forms import ConnectForm, SettingsForm
from repositories.models import Repository
from repositories.sync import sync_from_github

MOST_ROWS = 200


def _user(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


@require_GET
@login_required
def index(request: HttpRequest) -> HttpResponse:
    visible = (
        Repository.objects.visible_to(_user(request))
        .active()
        .select_related("owner__github_account")
    )
    context = {
        "repositories": visible[:MOST_ROWS],
        "section": "repositories",
        "has_github_app": bool(settings.GITHUB_CLIENT_ID and settings.GITHUB_CLIENT_SECRET),
        "github_account": GithubAccount.objects.filter(user=_user(request)).first(),
    }
    return render(request, "repositories/list.html", context)


@require_http_methods(["GET", "POST"])
@login_required
def add(request: HttpRequest) -> HttpResponse:
    """Show the form; on POST reach the repository and save it, or say what is wrong."""
    if not _user(request).can_work:
        raise PermissionDenied
    form = ConnectForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid() and _connected(request, form):
        return redirect("repositories:list")
    context = {"form": form, "section": "repositories"}
    return render(request, "repositories/add.html", context, status=422 if form.errors else 200)


def _connected(request: HttpRequest, form: ConnectForm) -> bool:
    names = ("url", "name", "default_branch")
    try:
        repository = connect.connect_repository(
            owner=_user(request),
            credential=form.credential(),
            **{name: form.cleaned_data[name] for name in names},
        )
    except AppError as error:
        field = error.details.get("field")
        form.add_error(field if field in form.fields else None, error.message)
        return False
    messages.success(request, f"{repository.full_name} is connected.")
    return True


@require_http_methods(["GET", "POST"])
@login_required
def change(request: HttpRequest, repository_id: uuid.UUID) -> HttpResponse:
    """Show a repository's settings; on POST save them, or say what is wrong."""
    user = _user(request)
    visible = Repository.objects.visible_to(user).active()
    repository = get_object_or_404(visible, pk=repository_id)
    if not editing.may_edit(repository, user):
        raise PermissionDenied
    is_post = request.method == "POST"
    form = SettingsForm(request.POST) if is_post else SettingsForm.showing(repository)
    if is_post and form.is_valid() and _edited(request, repository, form):
        return redirect("repositories:list")
    context = {"form": form, "repository": repository, "section": "repositories"}
    status = 422 if form.errors else 200
    return render(request, "repositories/settings.html", context, status=status)


def _edited(request: HttpRequest, repository: Repository, form: SettingsForm) -> bool:
    try:
        editing.edit_repository(repository, by=_user(request), **form.values())
    except AppError as error:
        field = error.details.get("field")
        form.add_error(field if field in form.fields else None, error.message)
        return False
    messages.success(request, f"The settings of {repository.full_name} are saved.")
    return True


@require_http_methods(["GET", "POST"])
@login_required
def remove(request: HttpRequest, repository_id: uuid.UUID) -> HttpResponse:
    """Ask, and on POST disconnect; what nobody else has a copy of goes by its name only."""
    user = _user(request)
    visible = Repository.objects.visible_to(user).active()
    repository = get_object_or_404(visible, pk=repository_id)
    if not editing.may_edit(repository, user):
        raise PermissionDenied
    is_named = request.POST.get("name") == repository.full_name
    if request.method == "GET" or (repository.hosted_bundle and not is_named):
        context = {"repository": repository, "section": "repositories"}
        return render(request, "repositories/remove.html", context)
    connect.disconnect_repository(repository)
    messages.success(request, f"{repository.full_name} is disconnected.")
    return redirect("repositories:list")


@require_POST
@login_required
def sync(request: HttpRequest) -> HttpResponse:
    """Make the list follow what the user's GitHub account reaches."""
    if not _user(request).can_work:
        raise PermissionDenied
    try:
        done = sync_from_github(_user(request))
    except AppError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"{done.message}: {done.added} new, {done.updated} changed.")
    return redirect("repositories:list")
