"""What follows from a datagram or a call: a datagram to send, a message, or something that the owner has to know.

The rules are in links.py and hellos.py.
"""

import attrs

from trio_chat.link.packets import VERSION
from trio_chat.link.session import Peer
from trio_chat.protocol.records import Address, PublicKeys


@attrs.frozen
class Transmit:
    """Send this datagram to this address."""

    data: bytes
    address: Address


@attrs.frozen
class Received:
    """The peer has sent this plaintext. Its address is the proven one, not always the source of the datagram."""

    peer: Peer
    plaintext: bytes


@attrs.frozen
class Moved:
    """The peer has proven that it is at another address now. The session goes on."""

    before: Peer
    now: Peer


@attrs.frozen
class KeysLearned:
    """The party at this address says that these are its keys, and they belong together. They are not trusted yet."""

    address: Address
    keys: PublicKeys


@attrs.frozen
class SessionReplaced:
    """A new session replaced one that the peer may have forgotten.

    What was sent on the old one recently may be lost. Requests that still wait for an answer should be sent again.
    """

    peer: Peer


@attrs.frozen
class ServerCalled:
    """The server has sent a wake-up call, and the session for which it was reason enough is there.

    It may have been started again. Then it does not know our registration. Anybody can forge a call.
    """

    server: Peer


@attrs.frozen
class OtherVersion:
    """The party at this address has sent something of another version of the protocol. Anybody can forge that."""

    address: Address
    version: int

    @property
    def is_older(self) -> bool:
        """Whether theirs is older than ours."""
        return self.version < VERSION


LinkEvent = Transmit | Received | Moved | SessionReplaced | KeysLearned | ServerCalled | OtherVersion
