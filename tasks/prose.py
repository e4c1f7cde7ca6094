"""Markdown of models and users as safe HTML: no raw HTML, no images, no other schemes."""

from __future__ import annotations

import re
from functools import lru_cache

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

from asynccoder.templatetags.display import visible

CHARACTERS = 100_000
LINKED_CHARACTERS = 10_000
"""Up to here bare addresses become links; finding them takes quadratic time on hostile text."""
TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li",
    "ol", "p", "pre", "s", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}
# A relative link of a model means a file of the repository; here it would lead into our own pages.
OUTWARD = re.compile(r"(?i)(https?://|mailto:)")


@lru_cache(maxsize=2)
def _parser(*, linkify: bool) -> MarkdownIt:
    parser = MarkdownIt("gfm-like", {"html": False, "linkify": linkify})
    return parser.disable("image") if linkify else parser.disable(["image", "linkify"])


def to_html(text: str) -> SafeString:
    """Render Markdown; whatever is not on the short list of tags and links stays text."""
    parser = _parser(linkify=len(text) <= LINKED_CHARACTERS)
    rest = f"\n\n… {len(text) - CHARACTERS:,} more characters" if len(text) > CHARACTERS else ""
    rendered = parser.render(visible(text[:CHARACTERS]) + rest)
    clean = nh3.clean(
        rendered,
        tags=TAGS,
        attributes=ATTRIBUTES,
        attribute_filter=_kept,
        url_schemes=SCHEMES,
        link_rel="noopener noreferrer nofollow",
    )
    return mark_safe(clean)  # noqa: S308 - nh3's allow-list has cleaned it


def _kept(tag: str, name: str, value: str) -> str | None:
    return value if name != "href" or OUTWARD.match(value) else None
