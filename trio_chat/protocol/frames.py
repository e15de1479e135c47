"""Several messages in one datagram: sealing, system calls and task switches are then paid for once.

A plaintext is one message, as wire.py encodes it, or a bundle: a zero byte, which is no kind of message, then each
message after its length in two bytes, big-endian. What goes together is decided in transport/endpoint.py.
"""

from collections.abc import Iterable
from itertools import chain

from trio_chat.protocol.wire import MAX_PLAINTEXT, WireError

BUNDLE = b"\0"
MAX_BUNDLED = 64
"""Messages in one datagram: the work that one datagram can ask for has a bound."""

_LENGTH = 2


def pack(messages: Iterable[bytes]) -> list[bytes]:
    """The plaintexts for these encoded messages, in order: as few as this order allows. A lone one gets no header.

    Each is at most MAX_PLAINTEXT long, if each of the messages is.
    """
    plaintexts: list[bytes] = []
    together: list[bytes] = []
    size = len(BUNDLE)
    for message in messages:
        length = _LENGTH + len(message)
        if together and (size + length > MAX_PLAINTEXT or len(together) == MAX_BUNDLED):
            plaintexts.append(_plaintext(together))
            together, size = [], len(BUNDLE)
        together.append(message)
        size += length
    if together:
        plaintexts.append(_plaintext(together))
    return plaintexts


def _plaintext(messages: list[bytes]) -> bytes:
    if len(messages) == 1:
        return messages[0]
    return BUNDLE + b"".join(chain.from_iterable((len(one).to_bytes(_LENGTH, "big"), one) for one in messages))


def unpack_untrusted(plaintext: bytes) -> list[bytes]:
    """The encoded messages in a plaintext, in order. They are not decoded: a wrong one must not cost the others.

    Raises WireError, and nothing else, if it is a bundle whose lengths do not fit, of no messages, or of more than
    MAX_BUNDLED.
    """
    if not plaintext.startswith(BUNDLE):
        return [plaintext]
    messages: list[bytes] = []
    at, end = len(BUNDLE), len(plaintext)
    while at < end:
        start = at + _LENGTH
        at = start + int.from_bytes(plaintext[at:start], "big")
        messages.append(plaintext[start:at])
    # A length that is cut short reads as a smaller one: then `at` is not the end either.
    if at != end or not 1 <= len(messages) <= MAX_BUNDLED:
        raise WireError("a bundle that does not fit together")
    return messages
