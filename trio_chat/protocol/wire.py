"""Messages as bytes: one byte for the kind, then the fields as a msgpack map.

All that comes out of a sealed link passes through `decode_untrusted`; datagrams pass through link/packets.py. It checks
the form only; the meaning is checked by the receivers.
"""

import msgspec

from trio_chat.protocol.messages import ANSWERS, REQUESTS, Message, Part, PartAck

MAX_DATAGRAM = 1200
"""Bytes of a datagram: passes every network in use without fragmentation (RFC 9000, section 14)."""

MAX_PLAINTEXT = MAX_DATAGRAM - 32
"""Bytes of a message that is sent in one datagram: the rest is the overhead of sealing."""


class WireError(Exception):
    """These bytes are not valid. Their sender gets no answer: it could be used to flood a third party."""


_encoder = msgspec.msgpack.Encoder()
_decoders: dict[int, msgspec.msgpack.Decoder[Message]] = {
    message.kind: msgspec.msgpack.Decoder(message) for message in (*REQUESTS, *ANSWERS, Part, PartAck)
}


def encode(message: Message) -> bytes:
    """The bytes of a message, of any length. parts.py splits those longer than MAX_PLAINTEXT."""
    return bytes((message.kind,)) + _encoder.encode(message)


def decode_untrusted(data: bytes) -> Message:
    """The message in these bytes. Unknown fields are skipped, so that a newer version can add some.

    Raises WireError, and nothing else, if they are not a message.
    """
    decoder = _decoders.get(data[0]) if data else None
    if decoder is None:
        raise WireError("no such kind of message")
    try:
        return decoder.decode(memoryview(data)[1:])
    # msgspec raises the latter two, which are no DecodeError, for invalid UTF-8 and for deeply nested unknown fields.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(str(error)) from error
