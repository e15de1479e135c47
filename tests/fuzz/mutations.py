"""Inputs made of other inputs: bits flipped, pieces cut out, doubled and exchanged, numbers and lengths at their edges.

Everything is drawn from the `random.Random` that is handed in, so that a seed fixes what comes out.
"""

import random
from collections.abc import Callable, Sequence

LONGEST = 40_000
"""Bytes of an input: more than all parts of a message together, and its hex still fits into a command line."""

EDGES = [0, 1, 2, 31, 32, 33, 63, 64, 127, 128, 255, 256, 1100, 1168, 1200, 16_384, 32_767, 65_535]
EDGES += [2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]
"""Integers at which something ends: lengths, counts, widths."""

ODD = [None, True, False, -1, 0, 1, *EDGES, 0.5, -0.0, -1.0, 1e300, float("nan"), float("inf"), 253_402_300_799.5]
ODD += ["", "x", "x" * 33, "bob\n", "\0", "::1", "256.0.0.1", [], [[]], {}, {"id": 1}]
ODD += map(bytes, (0, 16, 97, 1101, 1168))
"""Values that a field may not expect."""

Mutation = Callable[[bytearray, random.Random, Sequence[bytes]], None]


def mutated(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    """These bytes with a few changes, some of which put pieces of the others in."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 3, 6))):
        dice.choice(MUTATIONS)(changed, dice, others)
    return bytes(changed[:LONGEST])


def mixed(fields: object, other: object, dice: random.Random) -> object:
    """A decoded message with one field, however deep, left out, made odd or exchanged for one of the other message."""
    if isinstance(fields, list) and fields and dice.random() < 0.8:
        at = dice.randrange(len(fields))
        # Not both, or else what is nested would grow beyond all bounds.
        some = [mixed(fields[at], other, dice)] if dice.random() < 0.5 else [fields[at]] * dice.choice((0, 2, 10, 65))
        return fields[:at] + some + fields[at + 1 :]
    if not isinstance(fields, dict) or not fields or dice.random() < 0.1:
        theirs = [*other.values()] if isinstance(other, dict) else [other]
        return dice.choice([*theirs, *ODD])
    name = dice.choice([*fields])
    match dice.randrange(7):
        case 0:
            return {key: value for key, value in fields.items() if key != name}
        case 1:
            return fields | {name: fields[dice.choice([*fields])]}
        case 2:
            return {"new": other} | fields
    return fields | {name: mixed(fields[name], other, dice)}


# --- changes of bytes ---


def _place(data: bytes | bytearray, dice: random.Random) -> int:
    # Most of it near the beginning: there is the structure, and the rest may be one long text.
    return dice.randrange(min(len(data), dice.choice((40, 200, LONGEST))) + 1)


def _piece(data: bytes | bytearray, dice: random.Random) -> slice:
    start = _place(data, dice)
    return slice(start, start + dice.choice((1, 2, 4, 8, 16, 32, 64, 1100)))


def flip_a_bit(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    at = _place(data, dice)
    data[at : at + 1] = bytes(byte ^ 1 << dice.randrange(8) for byte in data[at : at + 1])


def change_a_byte(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    at = _place(data, dice)
    data[at : at + 1] = dice.randbytes(1)


def put_a_number(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    number, width = dice.choice(EDGES), dice.choice((1, 2, 4, 8))
    at = _place(data, dice)
    raw = (number % 256**width).to_bytes(width, dice.choice(("big", "little")))
    data[at : at + dice.choice((0, width))] = raw


def cut(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    del data[_piece(data, dice)]


def cut_the_end_off(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    del data[_place(data, dice) :]


def insert(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    at = _place(data, dice)
    data[at:at] = dice.randbytes(dice.choice((1, 2, 4, 16)))


def double(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    piece = _piece(data, dice)
    data[piece.start : piece.start] = data[piece] * dice.choice((1, 1, 2, 40))


def nest(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    at = _place(data, dice)
    data[at:at] = dice.choice((b"\x91", b"\x81\xa1x", b"[", b'{"a":')) * dice.choice((1, 32, 2000))


def exchange(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    one, other = sorted((_piece(data, dice), _piece(data, dice)), key=lambda piece: piece.start)
    if one.stop <= other.start:
        data[one.start : other.stop] = data[other] + data[one.stop : other.start] + data[one]


def borrow(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    lender = dice.choice(others)
    at, piece = _place(data, dice), _piece(lender, dice)
    data[at : at + dice.choice((0, piece.stop - piece.start))] = lender[piece]


def splice(data: bytearray, dice: random.Random, others: Sequence[bytes]) -> None:
    other = dice.choice(others)
    data[_place(data, dice) :] = other[_place(other, dice) :]


MUTATIONS: list[Mutation] = [
    *(flip_a_bit, change_a_byte, put_a_number, cut, cut_the_end_off, insert, double, nest, exchange, borrow, splice),
]
