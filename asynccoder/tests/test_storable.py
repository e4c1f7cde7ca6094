from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asynccoder.lib import storable


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\0\ud800\udfff"))))
def test_any_text_can_be_stored_and_what_could_be_is_unchanged(text: str) -> None:
    stored = storable.text(text)
    stored.encode()
    assert "\0" not in stored
    assert storable.text(stored) == stored


def test_data_is_made_storable_at_every_depth() -> None:
    given = {"a\0": ["x\0", ("\ud800", 1, None)], "b": {"c": True}}
    assert storable.data(given) == {"a\ufffd": ["x\ufffd", ["?", 1, None]], "b": {"c": True}}
