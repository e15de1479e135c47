"""The search for servers on the local network. How they answer is in server/searches.py.

Nothing that is found is trusted: anybody there can answer, also with the key of another server. Who joins with the
fingerprint of that key as `server_key` talks to the owner of the key, or to nobody.
"""

import secrets
from contextlib import closing
from ipaddress import ip_address

import attrs
import trio

from trio_chat.crypto.identities import verify_link_key
from trio_chat.link import packets
from trio_chat.protocol.records import Address, PublicKeys, fingerprint
from trio_chat.protocol.wire import WireError
from trio_chat.transport.multicast import SearchSocket
from trio_chat.transport.udp import UDP, Network

SEARCH_FOR = 1.0
"""Seconds in which answers are collected."""

ASK_AT = (0.0, 0.2, 0.5)
"""Seconds after which the question is sent: more than once, as it may be lost."""

MAX_FOUND, MAX_ADDRESSES = 64, 8
"""The most servers that are listed, and the most addresses of each: somebody may invent any number of them."""


@attrs.frozen
class FoundServer:
    """A server that has answered, by its Ed25519 `key`, and the `addresses` at which clients can reach it."""

    key: bytes
    addresses: tuple[Address, ...]

    @property
    def fingerprint(self) -> str:
        """What people compare instead of the key."""
        return fingerprint(self.key)


async def find_servers(*, network: Network = UDP) -> list[FoundServer]:
    """Search the local network for servers for 1 second; return those that answered, the fastest first.

    Only what comes over IPv4 is found, at most 64 servers. Anybody on the network can answer, also with the key of
    another server: let the user compare the fingerprint, and give it to `open_chat` as `server_key`.

    Raises AddressError if this machine cannot search.
    """
    found: dict[bytes, dict[Address, None]] = {}
    index = secrets.token_bytes(packets.INDEX_SIZE)
    with closing(network.open_search(listens=False)) as search, trio.move_on_after(SEARCH_FOR):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ask, search, packets.Hello(index).encode())
            while True:
                data, source = await search.receive()
                key = _key_untrusted(data, index)
                if key is not None and (key in found or len(found) < MAX_FOUND):
                    found.setdefault(key, {})
                    if len(found[key]) < MAX_ADDRESSES:
                        found[key][source] = None
    return [FoundServer(key, _reachable(addresses)) for key, addresses in found.items()]


async def _ask(search: SearchSocket, question: bytes) -> None:
    started_at = trio.current_time()
    for seconds in ASK_AT:
        await trio.sleep_until(started_at + seconds)
        await search.send(question)


def _key_untrusted(data: bytes, index: bytes) -> bytes | None:
    """The Ed25519 key in an answer to the question with this index; None if it is none."""
    try:
        packet = packets.parse_untrusted(data)
    except WireError:
        return None
    if not isinstance(packet, packets.Keys) or packet.index != index:
        return None
    keys = PublicKeys(packet.signing_key, packet.link_key)
    return keys.signing if verify_link_key(keys, packet.signature) else None


def _reachable(addresses: dict[Address, None]) -> tuple[Address, ...]:
    """A server on this machine answers from 127.0.0.1, too, which is of use to nobody else."""
    others = [one for one in addresses if not ip_address(one[0]).is_loopback]
    return tuple(others or addresses)
