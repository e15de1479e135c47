"""Questions for the keys of a party: those that this one asks, and its answers if it is a server.

A program of another version is found out here: sessions are made by programs of the same version only.
"""

from collections.abc import Callable

import attrs

from trio_chat.crypto.identities import verify_link_key
from trio_chat.link import packets
from trio_chat.link.events import KeysLearned, LinkEvent, OtherVersion, Transmit
from trio_chat.protocol.records import Address, PublicKeys
from trio_chat.protocol.wire import WireError

MAX_KEY_QUERIES = 16


@attrs.frozen
class ServerKeys:
    """The answer to a HELLO: the keys of this party, and `identities.sign_link_key` of them."""

    keys: PublicKeys
    signature: bytes


class Hellos:
    """The HELLOs of one party. With `server_keys` it answers those of others."""

    def __init__(self, random: Callable[[int], bytes], server_keys: ServerKeys | None) -> None:
        self._random = random
        self._server_keys = server_keys
        self._asked: dict[Address, bytes] = {}

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, address: Address) -> list[Transmit]:
        """Ask the party at this address, again and again until somebody has the keys that are wanted.

        The newest 16 are remembered until `forget`: each answer counts, as the first one may be a lie.
        """
        is_first = address not in self._asked
        # One index for all copies: the answer to any of them counts. Random: only a party that saw a HELLO can answer.
        index = self._asked.setdefault(address, self._random(packets.INDEX_SIZE))
        if len(self._asked) > MAX_KEY_QUERIES:
            del self._asked[next(iter(self._asked))]
        # A server of version 1 drops ours. Not with the first one: a server of our version answers that one, and does
        # not get twice as many of them.
        both = (packets.Hello(index).encode(), packets.hello_of_version_1(index))
        return [Transmit(datagram, address) for datagram in (both[:1] if is_first else both)]

    def forget(self) -> None:
        """Nobody waits for keys any longer: answers are refused from now on."""
        self._asked.clear()

    def receive_hello(self, hello: packets.Hello, address: Address) -> list[Transmit]:
        """Answer it. Raises WireError if this party is no server."""
        if self._server_keys is None:
            raise WireError("a HELLO to a party that is not a server")
        return [Transmit(self._answer(self._server_keys, hello.index), address)]

    def receive_keys(self, shown: packets.Keys, address: Address) -> list[LinkEvent]:
        """Return the keys. Raises WireError if nobody asked for them here, or they are not signed."""
        keys = PublicKeys(shown.signing_key, shown.link_key)
        if self._asked.get(address) != shown.index or not verify_link_key(keys, shown.signature):
            raise WireError("keys that were not asked for, or are not signed")
        return [KeysLearned(address, keys)]

    def receive_other_version(self, other: packets.OfOtherVersion, address: Address) -> list[LinkEvent]:
        """Say that somebody has another version. Raises WireError if that concerns nobody here."""
        told = OtherVersion(address, other.version)
        if other.kind == packets.Keys.kind:
            asked = self._asked.get(address)
            if asked is None or other.index != (packets.marked(asked) if told.is_older else asked):
                raise WireError("keys that were not asked for")
            return [told]
        is_hello = other.kind == packets.Hello.kind
        is_beside_ours = is_hello and told.is_older and other.index == packets.marked(other.index)
        if self._server_keys is None or is_beside_ours:
            raise WireError("another version, and nobody needs to know")
        # A newer program understands the beginning of our answer. An older one would not; and an answer of its version
        # would say that we have that, and lead to silence one step later.
        is_answered = is_hello and not told.is_older and other.size >= packets.KEYS_SIZE
        return [Transmit(self._answer(self._server_keys, other.index), address), told] if is_answered else [told]

    def _answer(self, own: ServerKeys, index: bytes) -> bytes:
        return packets.Keys(index, own.keys.link, own.keys.signing, own.signature).encode()
