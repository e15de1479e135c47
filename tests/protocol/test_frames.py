"""Several messages in one plaintext: what goes in comes out, however it is packed, and other bytes are refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.samples import SAMPLES
from trio_chat.protocol.frames import MAX_BUNDLED, pack, unpack_untrusted
from trio_chat.protocol.wire import MAX_PLAINTEXT, WireError, encode

MESSAGES = st.lists(
    st.sampled_from([encode(message) for message in SAMPLES.values()]).filter(lambda data: len(data) <= MAX_PLAINTEXT)
    | st.binary(min_size=1, max_size=MAX_PLAINTEXT).filter(lambda data: data[0] != 0),
    max_size=200,
)


def unpack_all(plaintexts):
    return [message for plaintext in plaintexts for message in unpack_untrusted(plaintext)]


@given(MESSAGES)
def test_what_goes_in_comes_out_in_order(messages):
    plaintexts = pack(messages)
    assert unpack_all(plaintexts) == messages
    assert all(1 <= len(plaintext) <= MAX_PLAINTEXT for plaintext in plaintexts)


@given(MESSAGES, st.data())
def test_any_split_means_the_same(messages, data):
    cut = data.draw(st.integers(0, len(messages)))
    assert unpack_all([*pack(messages[:cut]), *pack(messages[cut:])]) == messages


@given(MESSAGES)
def test_two_plaintexts_in_a_row_would_not_fit_into_one(messages):
    plaintexts = pack(messages)
    for one, two in itertools.pairwise(plaintexts):
        first, following = unpack_untrusted(one), unpack_untrusted(two)[0]
        size = 1 + sum(2 + len(message) for message in [*first, following])
        assert size > MAX_PLAINTEXT or len(first) == MAX_BUNDLED


def test_a_lone_message_has_no_header():
    assert pack([b"\x01alone"]) == [b"\x01alone"]
    assert pack([]) == []


def test_the_layout():
    assert pack([b"\x01one", b"\x02three"]) == [b"\0\0\x04\x01one\0\x06\x02three"]


@given(st.binary(max_size=MAX_PLAINTEXT) | st.binary(max_size=40).map(lambda data: b"\0" + data))
def test_any_bytes_are_messages_or_a_wire_error(data):
    try:
        messages = unpack_untrusted(data)
    except WireError:
        assert data.startswith(b"\0")
    else:
        assert sum(map(len, messages)) <= len(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\0\0",
        b"\0\0\x02\x01",
        b"\0\0\x01\x01\x05",
        b"\0\xff\xff\x01",
        b"\0" + b"\0\x01\x01" * (MAX_BUNDLED + 1),
    ],
    ids=["nothing in it", "half a length", "cut short", "a byte too many", "far too long", "too many"],
)
def test_what_does_not_fit_together_is_refused(data):
    with pytest.raises(WireError):
        unpack_untrusted(data)
