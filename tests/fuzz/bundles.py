"""The fuzz target for several messages in one datagram."""

import random
from collections.abc import Sequence
from contextlib import suppress

from tests.fuzz.samples import SAMPLES
from trio_chat.protocol.frames import BUNDLE, MAX_BUNDLED, pack, unpack_untrusted
from trio_chat.protocol.wire import MAX_PLAINTEXT, WireError, encode


def check_bundle(data: bytes) -> set[object]:
    """This plaintext is a sequence of messages, which means the same however it is packed, or it gives WireError."""
    try:
        messages = unpack_untrusted(data)
    except WireError:
        return {"refused"}
    assert 1 <= len(messages) <= MAX_BUNDLED
    if not data.startswith(BUNDLE):
        assert messages == [data], "a lone message is changed"
    # Only what is a message by its kind can be sent on, and only what fits.
    usable = [one for one in messages if one and not one.startswith(BUNDLE) and len(one) <= MAX_PLAINTEXT]
    packed = pack(usable)
    assert all(len(plaintext) <= MAX_PLAINTEXT for plaintext in packed), "too long for a datagram"
    assert [one for plaintext in packed for one in unpack_untrusted(plaintext)] == usable, "it means another thing"
    return {(len(messages), len(data).bit_length())}


def bundle_samples() -> list[bytes]:
    messages = [data for data in map(encode, SAMPLES.values()) if len(data) <= MAX_PLAINTEXT]
    return [*pack(messages), *messages[:3], *pack(messages[:1] * (MAX_BUNDLED + 1)), BUNDLE]


def rearranged_bundle(data: bytes, dice: random.Random, others: Sequence[bytes]) -> bytes:
    """The messages of two inputs in another order, in one bundle that may be too large."""
    messages = []
    for one in (data, dice.choice(others)):
        with suppress(WireError):
            messages += unpack_untrusted(one)
    dice.shuffle(messages)
    return BUNDLE + b"".join(min(len(one), 2**16 - 1).to_bytes(2, "big") + one for one in messages)
