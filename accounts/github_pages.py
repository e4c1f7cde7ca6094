"""Connecting GitHub in the browser: to GitHub and back, with a state that the session keeps."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from accounts import github
from accounts.models import User
from asynccoder.lib.errors import AppError

STATE = "github_state"
BACK_TO = "repositories:list"


@never_cache
@require_GET
@login_required
def connect(request: HttpRequest) -> HttpResponse:
    """Lead to GitHub. A link, not a form: the page's policy lets no form lead elsewhere."""
    try:
        address, state = github.begin(_worker(request), redirect_uri=_callback())
    except AppError as error:
        return _back(request, error.message, is_error=True)
    request.session[STATE] = state
    return redirect(address)


@never_cache
@require_GET
@login_required
def callback(request: HttpRequest) -> HttpResponse:
    """Take the code that GitHub sends the browser back with, if this session asked for one."""
    user = _worker(request)
    state, given = request.session.pop(STATE, ""), request.GET.get("state", "")
    if not state or not constant_time_compare(state, given):
        return _back(request, "This was not begun here, or twice; begin again.", is_error=True)
    code = request.GET.get("code", "")
    if not code or len(code) > 200:
        return _back(request, "GitHub was not connected.", is_error=True)
    try:
        account = github.connect(user, code=code, state=state, redirect_uri=_callback())
    except AppError as error:
        return _back(request, error.message, is_error=True)
    return _back(request, f"GitHub is connected as {account.login}.")


@require_POST
@login_required
def disconnect(request: HttpRequest) -> HttpResponse:
    try:
        github.disconnect(_worker(request))
    except AppError as error:
        return _back(request, error.message, is_error=True)
    return _back(request, "GitHub is disconnected; its token is forgotten.")


def _worker(request: HttpRequest) -> User:
    if not isinstance(request.user, User) or not request.user.can_work:
        raise PermissionDenied
    return request.user


def _callback() -> str:
    return f"{settings.PUBLIC_URL}{reverse('accounts:github-callback')}"


def _back(request: HttpRequest, message: str, *, is_error: bool = False) -> HttpResponse:
    messages.add_message(request, messages.ERROR if is_error else messages.SUCCESS, message)
    return redirect(BACK_TO)
