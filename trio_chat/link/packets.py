"""The layout of the datagrams of a link: a type, three bytes, an index of 4 bytes, and what the type carries.

The three bytes are zeros. In HELLO, KEYS and INIT the first of them is the version, which is 0 in version 1: these 8
bytes are the same in all versions, so that programs of different ones can say which of them must be upgraded.

Form only. What is encrypted in them, or forged, is found out in handshake.py and session.py.
"""

from struct import Struct
from typing import ClassVar

import attrs

from trio_chat.protocol.wire import WireError

VERSION = 2
"""The version of the protocol, also of what sessions carry. Only programs of the same version can talk."""

INDEX_SIZE = 4
"""Bytes of an index, by which the receiver of a datagram finds its session or handshake."""

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
_VERSION = bytes((VERSION, 0, 0))
_MARK = b"\x02"


def header(kind: int, index: bytes, middle: bytes = _ZERO) -> bytes:
    """The first eight bytes of every datagram."""
    return bytes((kind,)) + middle + index


@attrs.frozen
class _Layout:
    """A datagram of fixed size: the header, then fields of bytes, given by `sizes` in their order."""

    kind: ClassVar[int]
    sizes: ClassVar[dict[str, int]]
    middle: ClassVar[bytes] = _ZERO
    index: bytes

    def encode(self) -> bytes:
        return header(self.kind, self.index, self.middle) + b"".join([getattr(self, name) for name in self.sizes])


@attrs.frozen
class Hello(_Layout):
    """Asks for the keys of a server; `index` comes back with them. Padded to the size of the answer.

    With a shorter HELLO a server could be used to flood somebody whose address is forged as the source.
    """

    kind: ClassVar[int] = 1
    middle: ClassVar[bytes] = _VERSION
    sizes: ClassVar[dict[str, int]] = {"padding": 128}
    padding: bytes = bytes(128)


@attrs.frozen
class Keys(_Layout):
    """The X25519 and Ed25519 keys of a server; the second has signed the first."""

    kind: ClassVar[int] = 2
    middle: ClassVar[bytes] = _VERSION
    sizes: ClassVar[dict[str, int]] = {"link_key": 32, "signing_key": 32, "signature": 64}
    link_key: bytes
    signing_key: bytes
    signature: bytes


@attrs.frozen
class Init(_Layout):
    """The first handshake message, 112 bytes: e, sealed s, 16 sealed random bytes. `index` is the initiator's."""

    kind: ClassVar[int] = 3
    middle: ClassVar[bytes] = _VERSION
    sizes: ClassVar[dict[str, int]] = {"message": 112, "cookie": 16}
    message: bytes
    cookie: bytes = NO_COOKIE

    @property
    def bare(self) -> bytes:
        """All but the cookie: what the cookie is computed from."""
        return header(self.kind, self.index, self.middle) + self.message


@attrs.frozen
class Cookie(_Layout):
    """Asks for the INIT with this `index` again, with this cookie in it."""

    kind: ClassVar[int] = 4
    sizes: ClassVar[dict[str, int]] = {"cookie": 16}
    cookie: bytes


@attrs.frozen
class Resp(_Layout):
    """The second handshake message, 48 bytes: e, tag. `index` is that of the INIT, `sender` the responder's own."""

    kind: ClassVar[int] = 5
    sizes: ClassVar[dict[str, int]] = {"sender": INDEX_SIZE, "message": 48}
    sender: bytes
    message: bytes


@attrs.frozen
class Reset(_Layout):
    """Says that the index of a DATA belongs to no session here."""

    kind: ClassVar[int] = 7
    sizes: ClassVar[dict[str, int]] = {}


@attrs.frozen
class WakeUpCall(_Layout):
    """Says that this server has started again, and may have forgotten its clients. It belongs to no session."""

    kind: ClassVar[int] = 10
    sizes: ClassVar[dict[str, int]] = {}
    index: bytes = bytes(INDEX_SIZE)


@attrs.frozen
class OfOtherVersion:
    """A HELLO, KEYS or INIT of another version, of `size` bytes: what follows the header may be anything."""

    kind: int
    version: int
    index: bytes
    size: int


@attrs.frozen
class Path:
    """A path challenge or the proof that answers it: laid out and sealed as DATA, with 8 random bytes in it."""

    kinds: ClassVar[tuple[int, int]] = (CHALLENGE, PROOF)
    kind: int
    index: bytes


Packet = Hello | Keys | Init | Cookie | Resp | Reset | WakeUpCall | OfOtherVersion | Path
_LAYOUTS: dict[int, tuple[type[Hello | Keys | Init | Cookie | Resp | Reset | WakeUpCall], Struct]] = {
    one.kind: (one, Struct("4x4s" + "".join(f"{size}s" for size in one.sizes.values())))
    for one in (Hello, Keys, Init, Cookie, Resp, Reset, WakeUpCall)
}
KEYS_SIZE = _LAYOUTS[Keys.kind][1].size


def hello_of_version_1(index: bytes) -> bytes:
    """The HELLO of version 1 that goes beside the one with this index: a server of version 1 answers no other.

    It is marked, so that newer servers can tell it from that of a program of version 1. These use random indexes: of
    256 of them, one looks like this.
    """
    return header(Hello.kind, marked(index)) + bytes(128)


def marked(index: bytes) -> bytes:
    """The index of the HELLO of version 1 that goes beside the one with this index."""
    return index[:-1] + _MARK


def parse_untrusted(data: bytes) -> Packet:
    """The packet in a datagram of any type but DATA, which a session opens directly.

    Raises WireError, and nothing else, for any other type or size.
    """
    if len(data) < 8 or data[2:4] != _ZERO[1:]:
        raise WireError("not the header of a link datagram")
    if data[0] in Path.kinds and len(data) == PATH_SIZE and not data[1]:
        return Path(data[0], data[4:8])
    if data[0] not in _LAYOUTS:
        raise WireError("not a type of link datagram")
    packet_class, layout = _LAYOUTS[data[0]]
    if data[1] != packet_class.middle[0]:
        if packet_class.middle is _ZERO:
            raise WireError("not the header of a link datagram")
        # Version 1 has a zero there.
        return OfOtherVersion(data[0], data[1] or 1, data[4:8], len(data))
    if len(data) != layout.size:
        raise WireError("a datagram of this type has another size")
    packet = packet_class(*layout.unpack(data))
    if isinstance(packet, Hello) and any(packet.padding):
        raise WireError("a HELLO is padded with zeros")
    return packet
