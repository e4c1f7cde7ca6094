"""Connecting GitHub in the browser: to GitHub and back, with a state that the session keeps."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import github
from accounts.models import User
from asynccoder.lib.errors import AppError

STATE = "github_state"
BACK_TO = "repositories:list"


@never_cache
@require_http_methods(["GET", "POST"])
@login_required
def connect(request: HttpRequest) -> HttpResponse:
    """Lead to GitHub whoever asked for it with our form: no other site may begin it.

    By a page that goes on by itself: the policy lets no form lead elsewhere, not by a redirect.
    """
    user = _worker(request)
    if request.method == "GET":
        # From the sign-in that came between.
        return redirect(BACK_TO)
    try:
        address, state = github.begin(user, redirect_uri=_callback())
    except AppError as error:
        return _back(request, error.message, is_error=True)
    request.session[STATE] = state
    context = {"address": address, "section": "repositories"}
    return render(request, "accounts/to_github.html", context)


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
        is_revoked = github.disconnect(_worker(request))
    except AppError as error:
        return _back(request, error.message, is_error=True)
    return _back(request, github.farewell(is_revoked=is_revoked))


def _worker(request: HttpRequest) -> User:
    if not isinstance(request.user, User) or not request.user.can_work:
        raise PermissionDenied
    return request.user


def _callback() -> str:
    return f"{settings.PUBLIC_URL}{reverse('accounts:github-callback')}"


def _back(request: HttpRequest, message: str, *, is_error: bool = False) -> HttpResponse:
    messages.add_message(request, messages.ERROR if is_error else messages.SUCCESS, message)
    return redirect(BACK_TO)
