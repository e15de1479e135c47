"""JSON objects in a stream: any cuts, any blanks, and bytes that are not JSON.

Bytes by chance and by mutation are in tests/fuzz/.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.targets import check_presence
from trio_chat.presence.json_stream import MAX_DEPTH, MAX_OBJECT, JsonError, JsonStream

WHOLE = [{"user_id": 1, "friends": [2, "}{\\"]}, {}, {'"': {"[": '\\"'}}, {"é\n": "\u2028", "x": [[], {}, [1.5, None]]}]
TEXT = b"".join(json.dumps(one).encode() for one in WHOLE)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text('"\\{}[]x\n\u00e9', max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('"{]\\', max_size=3), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text('a"}', max_size=2), VALUES, max_size=3)


def objects(*pieces):
    """All objects that come out of these pieces."""
    stream = JsonStream()
    found = []
    for piece in pieces:
        stream.feed(piece)
        while (one := stream.take()) is not None:
            found.append(one)
    return found


def long_object(size):
    return b'{"a": "' + b"x" * (size - 9) + b'"}'


def nested(depth):
    """An object of that depth, the outermost one counted."""
    return b'{"a": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def test_two_pieces_cut_anywhere():
    for cut in range(len(TEXT) + 1):
        assert objects(TEXT[:cut], TEXT[cut:]) == WHOLE, f"cut at {cut}"


def test_byte_by_byte():
    assert objects(*(bytes([byte]) for byte in TEXT)) == WHOLE


def test_an_object_comes_out_with_its_last_byte():
    stream = JsonStream()
    stream.feed(b' {"a": 1')
    assert stream.take() is None
    stream.feed(b'} {"b": 2}  {')
    assert stream.take() == {"a": 1}
    assert stream.take() == {"b": 2}
    assert stream.take() is None


@given(st.lists(st.tuples(OBJECTS, st.text(" \t\r\n", max_size=3), st.booleans())), st.data())
def test_objects_survive_any_blanks_and_any_cuts(sent, data):
    text = "".join(json.dumps(one, ensure_ascii=plain) + blanks for one, blanks, plain in sent).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert objects(*pieces) == [one for one, _, _ in sent]


@given(OBJECTS, st.data())
def test_a_damaged_object_is_parsed_as_by_the_json_module_or_refused(sent, data):
    text = bytearray(json.dumps(sent, ensure_ascii=False).encode())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from(b'{}[]",:\\ 0\xff'))
    check_presence(bytes(text))


@pytest.mark.parametrize(
    "garbage",
    [
        b"x",
        b"hello there",
        b"1 ",
        b'"a"',
        b"[1]",
        b"null",
        b"\xef\xbb\xbf{}",
        b"\x00",
        '{"a": 1}'.encode("utf-16"),
        b"}",
        b"{]",
        b'{"a": [}',
        b'{"a": {]',
        b"{1: 2}",
        b'{"a": 1,}',
        b"{'a': 1}",
        b'{"a": 01}',
        b'{"a": \xff}',
        b'{"a": "\xff"}',
        b'{"a": "\xed\xa0\x80"}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\x"}',
        b'{"a": "\n"}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": ' + b"9" * (MAX_OBJECT - 7) + b"}",
    ],
)
def test_garbage_is_refused_at_once(garbage):
    with pytest.raises(JsonError):
        objects(garbage)


def test_objects_before_the_garbage_come_out_first():
    stream = JsonStream()
    stream.feed(b'{"a": 1}x')
    assert stream.take() == {"a": 1}
    with pytest.raises(JsonError):
        stream.take()


def test_the_last_value_of_a_repeated_key_counts():
    assert objects(b'{"a": 1, "a": {"b": 2, "b": 3}}') == [{"a": {"b": 3}}]


def test_whole_numbers_stay_whole():
    assert objects(b'{"a": %d}' % 10**400) == [{"a": 10**400}]


@pytest.mark.parametrize("piece", [1, 1000, MAX_OBJECT + 1])
def test_an_object_has_64_kib_at_most(piece):
    whole, long = long_object(MAX_OBJECT), long_object(MAX_OBJECT + 1)
    assert len(whole) == MAX_OBJECT
    assert objects(*(whole[at : at + piece] for at in range(0, len(whole), piece))) == [json.loads(whole)]
    with pytest.raises(JsonError, match="64 KiB"):
        objects(*(long[at : at + piece] for at in range(0, len(long), piece)))


def test_an_object_that_never_ends_is_refused_at_64_kib():
    stream = JsonStream()
    stream.feed(long_object(MAX_OBJECT + 2)[:MAX_OBJECT])
    assert stream.take() is None
    stream.feed(b"x")
    with pytest.raises(JsonError, match="64 KiB"):
        stream.take()


def test_blanks_and_earlier_objects_do_not_count():
    assert objects(b" " * MAX_OBJECT + long_object(MAX_OBJECT) + b"\n" * MAX_OBJECT + b"{}") == [
        json.loads(long_object(MAX_OBJECT)),
        {},
    ]


@pytest.mark.parametrize("opener", [b'{"a": ', b"["])
def test_depth_is_bounded(opener):
    assert len(objects(nested(MAX_DEPTH))) == 1
    with pytest.raises(JsonError, match="deep"):
        objects(nested(MAX_DEPTH + 1))
    with pytest.raises(JsonError, match="deep"):
        objects(b'{"a": ' + opener * 10_000)
