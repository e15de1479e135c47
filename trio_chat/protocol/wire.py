"""Bytes and messages: one kind byte, then the fields as a msgpack map.

The one gate for what comes from the network. Meaning is not checked here, only form.
"""

import msgspec

from trio_chat.protocol.messages import ANSWERS, REQUESTS, Message, Part, PartAck

__all__ = ["MAX_DATAGRAM", "MAX_PLAINTEXT", "WireError", "decode_untrusted", "encode"]

MAX_DATAGRAM = 1200
"""Bytes of a datagram: it passes every link in use without fragments (RFC 9000, section 14, reasons the same)."""

MAX_PLAINTEXT = MAX_DATAGRAM - 32
"""Bytes of a message that travels whole: a datagram less what sealing takes."""


class WireError(Exception):
    """These bytes are not a message. Whoever sent them gets no answer."""


_encoder = msgspec.msgpack.Encoder()
_decoders: dict[int, msgspec.msgpack.Decoder[Message]] = {
    message.kind: msgspec.msgpack.Decoder(message) for message in (*REQUESTS, *ANSWERS, Part, PartAck)
}


def encode(message: Message) -> bytes:
    """The bytes of a message, of any length; see reliability.split for those over MAX_PLAINTEXT."""
    return bytes((message.kind,)) + _encoder.encode(message)


def decode_untrusted(data: bytes) -> Message:
    """The message that these bytes are. Unknown fields are skipped, so that a newer version can add some.

    Raises WireError, and nothing else, for whatever is not a message.
    """
    decoder = _decoders.get(data[0]) if data else None
    if decoder is None:
        raise WireError("no such kind of message")
    try:
        return decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(str(error)) from error
