"""Terminal output as HTML: a table of cases, then whatever bytes there are."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynccoder.tests import cpu
from tasks import ansi

RED = '<span class="a-red">'
CASES = [
    # Text
    ("plain", "plain"), ("a\nb", "a\nb"), ("a\r\nb", "a\nb"), ("a\tb", "a\tb"), ("", ""),
    ("<b>&\"'", "&lt;b&gt;&amp;&quot;&#x27;"), ("é 漢字 🙂", "é 漢字 🙂"),
    # Colours
    ("\x1b[31mred\x1b[0m", f"{RED}red</span>"), ("\x1b[31mred", f"{RED}red</span>"),
    ("\x1b[31mred\x1b[mplain", f"{RED}red</span>plain"),
    ("\x1b[31mred\x1b[39mplain", f"{RED}red</span>plain"),
    ("\x1b[32mok", '<span class="a-green">ok</span>'),
    ("\x1b[33my", '<span class="a-yellow">y</span>'),
    ("\x1b[34mb", '<span class="a-blue">b</span>'),
    ("\x1b[35mm", '<span class="a-magenta">m</span>'),
    ("\x1b[36mc", '<span class="a-cyan">c</span>'),
    ("\x1b[37mw", '<span class="a-white">w</span>'),
    ("\x1b[30mk", '<span class="a-black">k</span>'),
    ("\x1b[91mR", '<span class="a-red a-bright">R</span>'),
    ("\x1b[97mW", '<span class="a-white a-bright">W</span>'),
    ("\x1b[1mb", '<span class="a-bold">b</span>'), ("\x1b[2md", '<span class="a-dim">d</span>'),
    ("\x1b[4mu", '<span class="a-under">u</span>'),
    ("\x1b[1;31mx", '<span class="a-bold a-red">x</span>'),
    ("\x1b[31m\x1b[1mx", '<span class="a-bold a-red">x</span>'),
    ("\x1b[1mx\x1b[22my", '<span class="a-bold">x</span>y'),
    ("\x1b[4mx\x1b[24my", '<span class="a-under">x</span>y'),
    ("\x1b[31mx\x1b[32my", f'{RED}x</span><span class="a-green">y</span>'),
    ("\x1b[31ma\nb\x1b[0mc", f"{RED}a</span>\n{RED}b</span>c"),
    ("\x1b[38;5;196mx", "x"), ("\x1b[38;2;1;2;3mx", "x"), ("\x1b[48;5;4;31mx", f"{RED}x</span>"),
    ("\x1b[41mx", "x"), ("\x1b[7mx", "x"), ("\x1b[999mx", "x"), ("\x1b[;31mx", f"{RED}x</span>"),
    ("\x9b31mx", f"{RED}x</span>"), ("\x1b[31mx\x1b[1;39my", f'{RED}x</span><span class="a-bold">y</span>'),
    # Overwriting
    ("10 %\r20 %", "20 %"), ("long\rab", "abng"), ("long\r\x1b[Kab", "ab"), ("abc\b\bX", "aXc"),
    ("\bx", "x"), ("abc\x1b[1K", "   "), ("abc\x1b[2Kd", "   d"), ("a\r\r\nb", "a\nb"),
    # Everything else a terminal obeys is dropped
    ("a\x1b[2Jb", "ab"), ("a\x1b[10;10Hb", "ab"), ("a\x1b[Ab", "ab"), ("a\x1b[?25lb", "ab"),
    ("a\x1b]0;title\x07b", "ab"), ("a\x1b]0;title\x1b\\b", "ab"),
    ("\x1b]8;;http://evil.example\x1b\\text\x1b]8;;\x1b\\", "text"),
    ("a\x1b]52;c;ZXZpbA==\x07b", "ab"), ("a\x1bPdevice\x1b\\b", "ab"), ("a\x1b_app\x1b\\b", "ab"),
    ("a\x1b]never ended\nb", "a\nb"), ("a\x1b(Bb", "ab"), ("a\x1bcb", "ab"), ("a\x07b", "ab"),
    ("a\x00b", "ab"), ("a\x9d0;t\x9cb", "ab"), ("a\x1b", "a"), ("a\x7fb", "ab"), ("a\x85b", "ab"),
    # What fools the eye is written out
    ("a\u202eb", "a⟨U+202E⟩b"), ("a\u200bb", "a⟨U+200B⟩b"), ("a\u2066b", "a⟨U+2066⟩b"),
    ("a\ufeffb", "a⟨U+FEFF⟩b"), ("\x1b[31ma\u202eb", f"{RED}a⟨U+202E⟩b</span>"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_output_is_shown_as_a_terminal_would(text: str, expected: str) -> None:
    assert ansi.to_html(text) == expected


ALLOWED = re.compile(r'<span class="[a-z -]+">|</span>')
ESCAPES = st.sampled_from(
    ["\x1b", "\x1b[", "\x1b]", "\x9b", "\r", "\b", "\n", "<", "31m", "K", ";", "\x07"]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(ESCAPES, st.text(max_size=8)), max_size=40).map("".join))
def test_no_text_becomes_markup(text: str) -> None:
    shown = ansi.to_html(text)
    rest = ALLOWED.sub("", shown)
    assert "<" not in rest
    assert ">" not in rest
    assert shown.count("<span") == shown.count("</span>")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", html.unescape(rest))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_plain_text_stays_itself(text: str) -> None:
    assert html.unescape(ansi.to_html(text)) == text


@pytest.mark.parametrize(
    "text",
    ["\x1b]" * 200_000, "\x1b[" * 200_000, "a\r" * 150_000, "\x1b[31m" * 80_000, "x" * 2_000_000],
)
def test_hostile_output_is_shown_in_time(text: str) -> None:
    with cpu.at_most(5):
        ansi.to_html(text)
