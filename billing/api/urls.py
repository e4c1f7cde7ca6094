"""API routes of this app, written without a trailing slash (it is optional everywhere)."""

from __future__ import annotations

from django.urls import URLPattern, path

from billing.api.views import (
    CreditsView,
    PlanViewSet,
    SubscribeView,
    TransactionViewSet,
    UsageView,
)

v1: list[URLPattern] = [
    path("users/credits", CreditsView.as_view(), name="v1-credits"),
    path(
        "users/credits/transactions",
        TransactionViewSet.as_view({"get": "list"}),
        name="v1-transactions",
    ),
    path("billing/plans", PlanViewSet.as_view({"get": "list"}), name="v1-plans"),
    path("billing/usage", UsageView.as_view(), name="v1-billing-usage"),
    path("billing/subscribe", SubscribeView.as_view(), name="v1-subscribe"),
]
"""Mounted under /api/v1/ (plain dialect)."""

envelope: list[URLPattern] = [
    path(
        "users/me/credits/transactions",
        TransactionViewSet.as_view({"get": "list"}),
        name="transactions",
    ),
]
"""Mounted under /api/ (envelope dialect)."""
