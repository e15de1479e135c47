"""Packets are translated and split as a router does it. No namespaces, so these run with all tests."""

import struct

from tests.networks.packets import DONT_FRAGMENT, MORE_FRAGMENTS, checksum, ends, fragments, with_ends

ALICE, BOB, OUTSIDE = ("10.99.0.1", 4000), ("10.99.0.2", 5000), ("203.0.113.7", 40_000)


def packet(data, *, flags=0, protocol=17):
    header = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(data), 7, flags, 64, protocol, 0) + bytes(8)
    return with_ends(header + struct.pack("!HHHH", 0, 0, 8 + len(data), 99) + data, ALICE, BOB)


def test_the_ends_of_a_datagram_are_read():
    assert ends(packet(b"hi")) == (ALICE, BOB)


def test_anything_else_has_no_ends():
    assert ends(packet(b"hi", protocol=1)) is None
    assert ends(packet(b"hi", flags=MORE_FRAGMENTS)) is None
    assert ends(b"\x60" + bytes(60)) is None
    assert ends(b"") is None


def test_a_translated_packet_has_a_right_header_and_no_checksum_of_its_data():
    translated = with_ends(packet(b"hi"), OUTSIDE, BOB)
    assert ends(translated) == (OUTSIDE, BOB)
    assert checksum(translated[:20]) == 0
    assert translated[26:] == b"\0\0hi"


def test_a_long_packet_is_split_into_pieces_that_make_it_up():
    whole = packet(bytes(range(250)) * 4)
    pieces = fragments(whole, 600)
    assert [len(piece) for piece in pieces] == [596, 452]
    assert all(checksum(piece[:20]) == 0 for piece in pieces)
    assert [struct.unpack_from("!HHH", piece, 2) for piece in pieces] == [(596, 7, MORE_FRAGMENTS), (452, 7, 72)]
    assert b"".join(piece[20:] for piece in pieces) == whole[20:]


def test_a_packet_that_must_not_be_split_is_dropped():
    whole = packet(bytes(1000), flags=DONT_FRAGMENT)
    assert fragments(whole, 600) == []
    assert fragments(whole, len(whole)) == [whole]
