"""The datagrams of a link, byte by byte: a type, three zero bytes, an index of 4 bytes, and what the type carries.

Form only. What is secret or forged in them is told apart in link_handshake.py and link_session.py.
"""

from typing import ClassVar

import attrs

from trio_chat.protocol.wire import WireError

__all__ = [
    "CHALLENGE",
    "DATA",
    "DATA_OVERHEAD",
    "INDEX_SIZE",
    "NO_COOKIE",
    "PATH_SIZE",
    "PROOF",
    "TOKEN_SIZE",
    "Cookie",
    "Hello",
    "Init",
    "Keys",
    "Packet",
    "Path",
    "Reset",
    "Resp",
    "header",
    "parse_untrusted",
]

INDEX_SIZE = 4
"""Bytes of an index: under it the receiver of a datagram finds what the datagram belongs to."""

DATA_OVERHEAD = 32
"""Bytes that DATA adds to its plaintext: header 8, counter 8, tag 16."""

DATA = 6
CHALLENGE = 8
PROOF = 9
TOKEN_SIZE = 8
PATH_SIZE = DATA_OVERHEAD + TOKEN_SIZE

NO_COOKIE = bytes(16)
"""Stands in an INIT whose sender has no cookie yet."""

_ZERO = bytes(3)


def header(kind: int, index: bytes) -> bytes:
    """The first eight bytes of every datagram."""
    return bytes((kind,)) + _ZERO + index


@attrs.frozen
class Hello:
    """What are your keys? As long as its answer; `index` comes back in it."""

    kind: ClassVar[int] = 1
    size: ClassVar[int] = 136
    index: bytes

    def encode(self) -> bytes:
        return header(self.kind, self.index).ljust(self.size, b"\0")

    @classmethod
    def _parse(cls, data: bytes) -> "Hello":
        if any(data[8:]):
            raise WireError("a HELLO is padded with zeros")
        return cls(data[4:8])


@attrs.frozen
class Keys:
    """My X25519 and Ed25519 keys; the second has signed the first."""

    kind: ClassVar[int] = 2
    size: ClassVar[int] = 136
    index: bytes
    link_key: bytes
    signing_key: bytes
    signature: bytes

    def encode(self) -> bytes:
        return header(self.kind, self.index) + self.link_key + self.signing_key + self.signature

    @classmethod
    def _parse(cls, data: bytes) -> "Keys":
        return cls(data[4:8], data[8:40], data[40:72], data[72:])


@attrs.frozen
class Init:
    """The first handshake message, 112 bytes: e, sealed s, 16 sealed random bytes. `index` is its sender's."""

    kind: ClassVar[int] = 3
    size: ClassVar[int] = 136
    index: bytes
    message: bytes
    cookie: bytes = NO_COOKIE

    def encode(self) -> bytes:
        return self.bare + self.cookie

    @property
    def bare(self) -> bytes:
        """All but the cookie: what the cookie is for."""
        return header(self.kind, self.index) + self.message

    @classmethod
    def _parse(cls, data: bytes) -> "Init":
        return cls(data[4:8], data[8:120], data[120:])


@attrs.frozen
class Cookie:
    """Send your INIT again with this. `index` is that of the INIT."""

    kind: ClassVar[int] = 4
    size: ClassVar[int] = 24
    index: bytes
    cookie: bytes

    def encode(self) -> bytes:
        return header(self.kind, self.index) + self.cookie

    @classmethod
    def _parse(cls, data: bytes) -> "Cookie":
        return cls(data[4:8], data[8:])


@attrs.frozen
class Resp:
    """The second handshake message, 48 bytes: e, tag. `sender` is the responder's index, `index` that of the INIT."""

    kind: ClassVar[int] = 5
    size: ClassVar[int] = 60
    index: bytes
    sender: bytes
    message: bytes

    def encode(self) -> bytes:
        return header(self.kind, self.index) + self.sender + self.message

    @classmethod
    def _parse(cls, data: bytes) -> "Resp":
        return cls(data[4:8], data[8:12], data[12:])


@attrs.frozen
class Reset:
    """I know no session under this index of a DATA."""

    kind: ClassVar[int] = 7
    size: ClassVar[int] = 8
    index: bytes

    def encode(self) -> bytes:
        return header(self.kind, self.index)

    @classmethod
    def _parse(cls, data: bytes) -> "Reset":
        return cls(data[4:8])


@attrs.frozen
class Path:
    """A path challenge or its proof, laid out and sealed as a DATA with 8 random bytes in it."""

    kinds: ClassVar[tuple[int, int]] = (CHALLENGE, PROOF)
    kind: int
    index: bytes


Packet = Hello | Keys | Init | Cookie | Resp | Reset | Path
_CLASSES: dict[int, type[Hello | Keys | Init | Cookie | Resp | Reset]] = {
    one.kind: one for one in (Hello, Keys, Init, Cookie, Resp, Reset)
}


def parse_untrusted(data: bytes) -> Packet:
    """The datagram that these bytes are, other than DATA, which a session opens without further ado.

    Raises WireError, and nothing else, for whatever has another type or size.
    """
    if len(data) < 8 or data[1:4] != _ZERO:
        raise WireError("not the header of a link datagram")
    if data[0] in Path.kinds and len(data) == PATH_SIZE:
        return Path(data[0], data[4:8])
    found = _CLASSES.get(data[0])
    if found is None or len(data) != found.size:
        raise WireError("not a link datagram")
    return found._parse(data)
