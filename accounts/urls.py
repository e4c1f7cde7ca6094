"""Pages of this app."""

from __future__ import annotations

from django.urls import URLPattern, path

from accounts import github_pages, views

app_name = "accounts"
urlpatterns: list[URLPattern] = [
    path("sign-in/", views.sign_in, name="sign-in"),
    path("sign-up/", views.sign_up, name="sign-up"),
    path("sign-out/", views.sign_out, name="sign-out"),
    path("github/connect/", github_pages.connect, name="github-connect"),
    path("github/callback/", github_pages.callback, name="github-callback"),
    path("github/disconnect/", github_pages.disconnect, name="github-disconnect"),
]
