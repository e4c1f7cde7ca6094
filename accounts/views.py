"""Pages to sign in, out and up."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts.errors import BadCredentials
from accounts.forms import SignInForm, SignUpForm
from accounts.models import User
from accounts.registration import register
from asynccoder.api.limits import limit_authentication
from asynccoder.lib.errors import AppError

BACKEND = settings.AUTHENTICATION_BACKENDS[0]


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect(_next(request))
    form = SignInForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST" and form.is_valid():
        try:
            _sign_in(request, form)
            return redirect(_next(request))
        except AppError as error:
            form.add_error(None, error.message)
            status = error.status
    return _page(request, "accounts/sign_in.html", form, status)


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "POST"])
def sign_up(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect(_next(request))
    form = SignUpForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST" and form.is_valid():
        try:
            limit_authentication(request, form.cleaned_data["email"])
            login(request, register(**form.cleaned_data), backend=BACKEND)
            return redirect(_next(request))
        except AppError as error:
            form.add_error(None, error.message)
            status = error.status
    return _page(request, "accounts/sign_up.html", form, status)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect(settings.LOGOUT_REDIRECT_URL)


@never_cache
def sign_in_to_admin(request: HttpRequest) -> HttpResponse:
    """Stand in for the admin's own form, which counts no tries."""
    if request.user.is_authenticated and not request.user.is_staff:
        raise PermissionDenied
    target = request.GET.get("next") or reverse("admin:index")
    return redirect_to_login(target)


def _sign_in(request: HttpRequest, form: Form) -> None:
    identity = form.cleaned_data["identity"]
    limit_authentication(request, identity)
    user = authenticate(request, username=identity, password=form.cleaned_data["password"])
    if not isinstance(user, User):
        raise BadCredentials
    login(request, user, backend=BACKEND)


def _next(request: HttpRequest) -> str:
    """Return where to go after signing in: a page of ours, whatever the address says."""
    target = request.POST.get("next") or request.GET.get("next") or ""
    is_ours = url_has_allowed_host_and_scheme(
        target, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return target if is_ours else settings.LOGIN_REDIRECT_URL


def _page(request: HttpRequest, template: str, form: Form, status: int) -> HttpResponse:
    # What a browser calls a failure, htmx swaps in like a page only as 422.
    is_refused = request.method == "POST" and status == 200
    context = {"form": form, "next": request.POST.get("next") or request.GET.get("next") or ""}
    return render(request, template, context, status=422 if is_refused else status)
