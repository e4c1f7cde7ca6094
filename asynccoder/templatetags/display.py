"""How figures, times, states and foreign text look on every page."""

from __future__ import annotations

import datetime as dt
import math
import unicodedata
from decimal import Decimal

from django import template
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()
MICRO = 1_000_000
# Controls that change what a reader sees: bidirectional overrides, joiners, zero-width spaces.
HIDDEN = frozenset({"Cf", "Cc", "Co", "Cs", "Zl", "Zp"})
PLAIN = frozenset("\t\n")


@register.simple_tag
def icon(name: str, css: str = "", label: str = "") -> SafeString:
    """Return an icon of the sprite; with a ``label`` it is an image, without it an ornament."""
    href = f"{static('img/icons.svg')}#{name}"
    if label:
        return format_html(
            '<svg class="i {}" role="img" aria-label="{}"><use href="{}"/></svg>', css, label, href
        )
    return format_html('<svg class="i {}" aria-hidden="true"><use href="{}"/></svg>', css, href)


@register.filter
def credits(microcredits: int | None) -> str:
    """Write microcredits as credits with at most two decimals: ``1,412``, ``0.42``, ``<0.01``."""
    if not microcredits:
        return "0"
    if 0 < microcredits < MICRO // 100:
        return "<0.01"
    value = f"{Decimal(microcredits) / MICRO:,.2f}"
    return value.rstrip("0").rstrip(".")


@register.filter
def credits_exact(microcredits: int | None) -> str:
    """Write microcredits to the last digit, so that printed rows add up to the printed sum."""
    value = f"{Decimal(microcredits or 0) / MICRO:,.6f}".rstrip("0").rstrip(".")
    return value or "0"


@register.filter
def thousands(number: int | None) -> str:
    return f"{number or 0:,}"


@register.filter
def seconds(value: float | None) -> str:
    """Write a duration as people say it: ``0.4 s``, ``31 s``, ``3 min 08 s``, ``2 h 05 min``."""
    if value is None or value < 0 or not math.isfinite(value):
        return ""
    if value < 10:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@register.filter
def ago(moment: dt.datetime | None) -> str:
    """Write how long ago a moment was, short: ``now``, ``5 min``, ``3 h``, ``2 days``."""
    if moment is None:
        return ""
    past = max(0, int((timezone.now() - moment).total_seconds()))
    if past < 60:
        return "just now"
    if past < 3600:
        return f"{past // 60} min ago"
    if past < 86400:
        return f"{past // 3600} h ago"
    days = past // 86400
    return f"{days} day{'s' if days > 1 else ''} ago"


@register.simple_tag
def moment(value: dt.datetime | None, style: str = "ago") -> SafeString | str:
    """Return a ``<time>`` element; the whole date is its title."""
    if value is None:
        return ""
    local = timezone.localtime(value)
    text = ago(value) if style == "ago" else local.strftime("%H:%M:%S")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        local.isoformat(),
        local.strftime("%Y-%m-%d %H:%M:%S %Z"),
        text,
    )


def is_hidden(character: str) -> bool:
    """Tell whether a character is invisible or reorders the text around it."""
    return unicodedata.category(character) in HIDDEN and character not in PLAIN


@register.filter
def visible(text: str) -> str:
    """Write invisible and reordering characters as ``⟨U+202E⟩``, so that nobody is fooled."""
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"⟨U+{ord(c):04X}⟩" if is_hidden(c) else c for c in text)
