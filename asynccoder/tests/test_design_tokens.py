"""The contrasts of dashboard.md, section 4, computed anew from ``tokens.css``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).resolve().parents[1] / "static"
TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
TEXT, SHAPE = 4.5, 3.0
CARDS = ["bg", "surface", "sunken"]
LINES = ["add", "del"]


def tokens(theme: int) -> dict[str, str]:
    """Return the colours of one theme: 0 light, 1 dark."""
    text = (STATIC / "css" / "tokens.css").read_text()
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", text)
    single = re.findall(r"--([\w-]+): (#\w{6});", text)
    return {name: (light, dark)[theme] for name, light, dark in pairs} | dict(single)


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.2."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ratio(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_ratio_is_wcags() -> None:
    assert ratio("#000000", "#ffffff") == pytest.approx(21)
    assert ratio("#777777", "#ffffff") == pytest.approx(4.478, abs=0.01)


# token, backgrounds it stands on, least ratio: (light, dark) of the design's table
PAIRS: list[tuple[str, list[str], float]] = [
    ("text", [*CARDS, *LINES, "add-w", "del-w", "accent-soft"], TEXT),
    ("text-2", [*CARDS, "accent-soft", *LINES], TEXT),
    ("text-3", CARDS, TEXT),
    ("accent", [*CARDS, "accent-soft"], TEXT),
    ("accent-ink", ["accent"], TEXT),
    *((name, [*CARDS, f"{name}-soft"], TEXT) for name in ("ok", "warn", "bad", "idle")),
    ("line-strong", CARDS, SHAPE),
    *((name, ["surface", *LINES], TEXT) for name in ("key", "str", "num", "com", "fun")),
    ("ok", ["add"], TEXT),
    ("bad", ["del"], TEXT),
    *(
        (name, ["term"], TEXT)
        for name in (
            "term-text", "term-dim", "term-link", "ansi-red", "ansi-green", "ansi-yellow",
            "ansi-blue", "ansi-magenta", "ansi-cyan", "ansi-grey",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("name", "grounds", "least"), PAIRS, ids=[pair[0] for pair in PAIRS])
def test_colour_can_be_read_on_its_grounds(
    theme: int, name: str, grounds: list[str], least: float
) -> None:
    colours = tokens(theme)
    found = {ground: round(ratio(colours[name], colours[ground]), 2) for ground in grounds}
    assert min(found.values()) >= least, found


# What the design says is the lowest of each, so that a change of a token is seen.
DESIGN = {
    "text": (["bg", "surface", "sunken"], 14.2, 12.1),
    "text-2": (CARDS, 6.7, 8.0),
    "text-3": (["bg", "surface"], 5.0, 5.6),
    "line-strong": (["surface"], 3.4, 3.9),
    "accent": (["surface", "accent-soft"], 5.7, 7.1),
}


@pytest.mark.parametrize("name", DESIGN)
def test_tokens_are_at_least_what_the_design_measured(name: str) -> None:
    grounds, *least = DESIGN[name]
    for theme in (0, 1):
        colours = tokens(theme)
        lowest = min(ratio(colours[name], colours[str(ground)]) for ground in grounds)
        assert lowest >= float(str(least[theme])) - 0.1


def test_no_colour_is_written_outside_the_tokens() -> None:
    for path in (STATIC / "css").glob("*.css"):
        if path.name != "tokens.css":
            colours = set(re.findall(r"#[0-9a-f]{3,8}\b", path.read_text()))
            assert colours <= {"#0003", "#fff", "#ffffff1f"}, path.name  # Shadow, print, target.


def test_every_token_that_is_used_exists() -> None:
    known = set(re.findall(r"--([\w-]+):", (STATIC / "css" / "tokens.css").read_text()))
    for path in [*(STATIC / "css").glob("*.css"), STATIC / "img" / "icons.svg"]:
        assert set(re.findall(r"var\(--([\w-]+)\)", path.read_text())) <= known, path.name


def test_every_icon_that_is_used_exists() -> None:
    sprite = (STATIC / "img" / "icons.svg").read_text()
    symbols = set(re.findall(r'<symbol id="([\w-]+)"', sprite))
    used = {
        name
        for path in TEMPLATES.rglob("*.html")
        for name in re.findall(r'{% icon "([\w-]+)"', path.read_text())
    }
    assert used
    assert used <= symbols
    assert len(sprite) < 12_000


FORBIDDEN = re.compile(
    r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=|\shx-on|hx-vals=.js:|javascript:|\|safe\b"
    r"|mark_safe|autoescape off",
    re.IGNORECASE,
)


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda p: p.name)
def test_template_keeps_the_content_policy(path: Path) -> None:
    """Nothing inline: the policy has no nonce, so a page with one would simply break."""
    found = [match[0] for match in FORBIDDEN.finditer(path.read_text())]
    assert found == []
    assert len(path.read_text().splitlines()) <= 150


def test_policy_check_finds_what_it_looks_for() -> None:
    for text in ("<script>x", '<p style="a">', '<p onclick="a">', "<style>", "{{ x|safe }}"):
        assert FORBIDDEN.search(text), text


def test_files_stay_small() -> None:
    import gzip

    size = {
        kind: sum(len(gzip.compress(p.read_bytes())) for p in (STATIC / kind).glob(f"*.{kind}"))
        for kind in ("css", "js")
    }
    assert size["css"] < 9_000, size
    assert size["js"] < 14_000, size
    for path in (STATIC / "js").glob("*.js"):
        assert len(path.read_text().splitlines()) <= 300, path.name
