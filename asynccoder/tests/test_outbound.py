"""Users' URLs lead to public https addresses or nowhere; a trap on loopback hears nothing."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccoder.lib.outbound import UrlRefused, check_url, is_public, resolved
from asynccoder.tests.traps import Trap

PUBLIC = "140.82.112.3"


@pytest.fixture
def trap() -> Iterator[Trap]:
    made = Trap()
    yield made
    made.close()


def names(host: str, port: int) -> Sequence[str]:
    """Stand for a name server that anybody can write names into; numbers resolve as in libc."""
    table = {
        "github.com": [PUBLIC],
        "localtest.example": ["127.0.0.1"],
        "metadata.example": ["169.254.169.254"],
        "internal.example": ["10.0.0.7"],
        "mixed.example": [PUBLIC, "127.0.0.1"],
        "six.example": ["::1"],
        "mapped.example": ["::ffff:127.0.0.1"],
        "nat64.example": ["64:ff9b::7f00:1"],
        "both.example": [PUBLIC, "2606:50c0:8000::153"],
    }
    return table.get(host) or resolved(host, port)


REFUSED = """
http://github.com/x/y
HTTP://github.com/x/y
ftp://github.com/x
file:///etc/passwd
file://localhost/etc/passwd
gopher://127.0.0.1:6379/_FLUSHALL
ext::sh
ssh://git@github.com/x
git://github.com/x
javascript:alert(1)
data:text/plain,x
//github.com/x
github.com/x
https:github.com/x
https:/github.com/x
https:///x
https://
https://?x
https://#x
-o=x
--upload-pack=touch
https://127.0.0.1/
https://127.0.0.1:{port}/
https://127.1/
https://127.0.1/
https://2130706433/
https://0x7f000001/
https://0x7f.1/
https://0x7f.0.0.1/
https://0177.0.0.1/
https://017700000001/
https://0/
https://0.0.0.0/
https://00.0.0.0/
https://127.0.0.1./
https://127.0.0.01/
https://①②⑦.0.0.1/
https://127。0。0。1/
https://ⓛocalhost/
https://localhost/
https://LOCALHOST:{port}/
https://localhost./
https://localhost%00.github.com/
https://127.0.0.1%2f@github.com/
https://github.com%2f@127.0.0.1/
https://[::1]/
https://[::]/
https://[0:0:0:0:0:0:0:1]/
https://[::ffff:127.0.0.1]/
https://[::ffff:7f00:1]/
https://[::127.0.0.1]/
https://[64:ff9b::7f00:1]/
https://[64:ff9b:1::1]/
https://[2002:7f00:1::]/
https://[2001:0:7f00:1::]/
https://[2001:db8::1]/
https://[fe80::1]/
https://[fe80::1%25lo]/
https://[fc00::1]/
https://[fec0::1]/
https://[ff02::1]/
https://[100::1]/
https://[::1/
https://::1]/
https://[github.com]/
https://10.0.0.1/
https://172.16.0.1/
https://192.168.1.1/
https://169.254.169.254/latest/meta-data/
https://100.64.0.1/
https://192.0.0.170/
https://192.88.99.1/
https://198.18.0.1/
https://198.51.100.1/
https://203.0.113.1/
https://224.0.0.1/
https://240.0.0.1/
https://255.255.255.255/
https://localtest.example/
https://metadata.example/
https://internal.example/
https://mixed.example/
https://six.example/
https://mapped.example/
https://nat64.example/
https://user@github.com/x
https://user:pass@github.com/x
https://@github.com/x
https://github.com@127.0.0.1/
https://127.0.0.1#@github.com/
https://127.0.0.1\\@github.com/
https://github.com\\@127.0.0.1/
https://github.com:0/x
https://github.com:65536/x
https://github.com:-1/x
https://github.com:443x/x
https://github.com:\uff1443/x
https://-github.com/
https://github-.com/
https://git_hub.com/
https://git..hub.com/
https://.github.com/
https://*.github.com/
https://github.com;127.0.0.1/
https://github.com,127.0.0.1/
https://github .com/
https://no-such-host.invalid/
""".strip().splitlines()
WITH_CONTROLS = ["https://github.com/\r\nHost: x", "https://github.com\t/", "\nhttps://github.com/",
                 "https://git\0hub.com/", "https://github.com/\x7f", " https://github.com/",
                 "https://github.com/ü", "https://github.com/" + "a" * 2000]  # fmt: skip


@pytest.mark.parametrize("url", [*REFUSED, *WITH_CONTROLS], ids=repr)
def test_url_is_refused_and_nobody_called(trap: Trap, url: str) -> None:
    with pytest.raises(UrlRefused):
        check_url(url.replace("{port}", str(trap.port)), allowed=[], resolve=names)
    assert trap.hits == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "0", "localhost"]
)
def test_control_a_careless_client_reaches_the_trap(trap: Trap, host: str) -> None:
    with closing(http.client.HTTPConnection(host, trap.port, timeout=5)) as client:
        client.request("GET", "/")
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            client.getresponse()
    assert trap.hits == 1


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://github.com/x/y.git", "github.com", 443),
        ("HTTPS://GitHub.com/x", "github.com", 443),
        ("https://github.com:8443/x?y=z", "github.com", 8443),
        ("https://both.example/x", "both.example", 443),
        (f"https://{PUBLIC}/x", PUBLIC, 443),
        ("https://[2606:50c0:8000::153]/x", "2606:50c0:8000::153", 443),
    ],
)
def test_public_address_is_taken_and_pinned(url: str, host: str, port: int) -> None:
    found = check_url(url, allowed=[], resolve=names)
    assert (found.host, found.port, found.is_plain_http) == (host, port, False)
    assert is_public(found.address)


def test_operator_allows_exactly_one_destination() -> None:
    allowed = ["127.0.0.1:8080", "GitLab.internal.example:443"]
    found = check_url("http://127.0.0.1:8080/x", allowed=allowed)
    assert (found.address, found.is_plain_http) == ("127.0.0.1", True)
    with pytest.raises(UrlRefused):
        check_url("http://127.0.0.1:8081/x", allowed=allowed)
    with pytest.raises(UrlRefused):
        check_url("https://127.0.0.1/x", allowed=allowed)
    inside = check_url(
        "https://gitlab.internal.example/x", allowed=allowed, resolve=lambda *_: ["10.0.0.7"]
    )
    assert inside.address == "10.0.0.7"


def test_name_that_changes_its_answer_is_asked_once() -> None:
    answers = iter([[PUBLIC], ["127.0.0.1"]] * 1000)
    for _ in range(1000):
        found = check_url("https://rebind.example/", allowed=[], resolve=lambda *_: next(answers))
        assert found.address == PUBLIC
        with pytest.raises(UrlRefused):
            check_url("https://rebind.example/", allowed=[], resolve=lambda *_: next(answers))


@given(st.text(max_size=60), st.sampled_from(["https://", "https://github.com", "http://", ""]))
def test_any_text_is_refused_or_leads_to_a_public_place(text: str, start: str) -> None:
    try:
        found = check_url(start + text, allowed=[], resolve=lambda *_: [PUBLIC])
    except UrlRefused:
        return
    assert found.address == PUBLIC
    assert not found.is_plain_http
    assert found.host.isascii()
    assert "@" not in found.host


@given(st.ip_addresses(v=4, network="0.0.0.0/0"))
def test_public_v4_is_never_one_of_the_private_networks(address: object) -> None:
    text = str(address)
    first = int(text.partition(".")[0])
    if first in (0, 10, 127) or first >= 224 or text.startswith(("192.168.", "169.254.")):
        assert not is_public(text)


@pytest.mark.parametrize("address", ["", "x", "127.0.0.1", "::1", "fe80::1%lo", "1.2.3"])
def test_what_is_no_public_address(address: str) -> None:
    assert not is_public(address)
