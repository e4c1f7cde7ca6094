"""The page of models and of the user's own provider keys."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts.models import User
from aimodels import access, keys
from aimodels.errors import KeyRefused
from aimodels.forms import KeyForm
from aimodels.models import AIModel, ProviderKey


@require_http_methods(["GET", "POST"])
@login_required
def index(request: HttpRequest) -> HttpResponse:
    """Show the models and the user's keys; on POST add a key."""
    user = _user(request)
    form = KeyForm(request.POST or None)
    if request.method == "POST":
        _refuse_viewer(user)
        if form.is_valid() and _added(user, form):
            messages.success(request, "The key is stored.")
            return redirect("aimodels:list")
    models = list(AIModel.objects.shown_to(user))
    usable = {model.pk for model in access.usable(models, user)}
    return render(
        request,
        "aimodels/list.html",
        {
            "section": "models",
            "models": [(model, model.pk in usable) for model in models],
            "keys": ProviderKey.objects.visible_to(user),
            "form": form,
        },
        status=422 if form.errors else 200,
    )


@require_POST
@login_required
def remove_key(request: HttpRequest, key_id: uuid.UUID) -> HttpResponse:
    user = _user(request)
    _refuse_viewer(user)
    get_object_or_404(ProviderKey.objects.visible_to(user), pk=key_id).delete()
    messages.success(request, "The key is gone.")
    return redirect("aimodels:list")


def _added(user: User, form: KeyForm) -> bool:
    given = form.cleaned_data
    try:
        keys.add(user=user, provider=given["provider"], plain=given["key"], name=given["name"])
    except KeyRefused as error:
        form.add_error("key", error.message)
        return False
    return True


def _refuse_viewer(user: User) -> None:
    if not user.can_work:
        raise PermissionDenied


def _user(request: HttpRequest) -> User:
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
