"""API routes of this app, written without a trailing slash (it is optional everywhere)."""

from __future__ import annotations

from django.urls import URLPattern

v1: list[URLPattern] = []
"""Mounted under /api/v1/ (plain dialect)."""

envelope: list[URLPattern] = []
"""Mounted under /api/ (envelope dialect)."""
