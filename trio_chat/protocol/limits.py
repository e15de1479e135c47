"""Limits: how much of what others need, too, one key or one address may use. The numbers, and what they count by.

Nothing is decided here: the buckets are in token_buckets.py, and each limit is applied where the request arrives.
"""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address

import attrs

from trio_chat.protocol.records import Address

IPV6_NETWORK_BITS = 64
"""Bits of an IPv6 address that name a network. The others belong to whoever has the network: 2**64 addresses."""

MAX_SHARE = 3
"""Nobody may use more than what is free, divided by this, of what all share: a mailbox, a queue.

So one key gets a quarter of it at most, the next one a quarter of the rest, and something is free for the next.
"""


@attrs.frozen
class Rate:
    """So many at once, and then `a_second` more of them in each second."""

    at_once: float = attrs.field(validator=attrs.validators.ge(1))
    a_second: float = attrs.field(validator=attrs.validators.gt(0))

    def __str__(self) -> str:
        often = self.a_second >= 1
        number, unit = (self.a_second, "second") if often else (self.a_second * 60, "minute")
        return f"{self.at_once:,.0f} at once, then {number:,.4g} a {unit}"


@attrs.frozen
class Limits:
    """The limits of a server. An address is what `origin` makes of one.

    A key is the Ed25519 key that names belong to; for registrations and requests the X25519 key of the link, which is
    proven before anything else is.

    They are for strangers, not against work: a program that needs more of something can be given other numbers.
    """

    names: int = 10_000
    """Names that the server knows, online or not. Clients take 20,000."""
    names_per_key: int = 50
    """Names that belong to one key."""
    new_names_per_address: Rate = Rate(1000, 1 / 60)
    """Names that are registered for the first time from one address."""

    registrations_per_key: Rate = Rate(50, 5)
    """Registrations with one key, whether or not they succeed, and moves of it to other addresses."""
    registrations_per_address: Rate = Rate(2000, 100)
    """The same of all keys at one address."""
    registrations_in_progress: int = attrs.field(default=2048, validator=attrs.validators.ge(MAX_SHARE))
    """Registrations that wait for the store. More are not answered, and one address gets a quarter at most."""

    requests_per_key: Rate = Rate(5000, 500)
    """Requests of all kinds with one key. More are not answered."""
    name_lists_per_key: Rate = Rate(1000, 5)
    """Requests for the next 14 names, with one key: the names of a full server take 715."""
    introductions_per_key: Rate = Rate(50, 5)
    """How often one key may have others send to it. A client does so as often for its server."""

    handshakes_per_port: Rate = Rate(5, 20)
    """Handshakes that one address and port gets answered."""
    handshakes_per_address: Rate = Rate(1000, 50)
    """The same of all ports of one address, for each of the two kinds below."""
    handshakes_of_strangers: Rate = Rate(1000, 500)
    """Handshakes of all addresses and ports that have no session of somebody known: what strangers may cost."""
    handshakes_of_peers: Rate = Rate(2000, 500)
    """Handshakes of all addresses and ports that have one, which they renew every two minutes."""
    handshakes_of_newcomers: Rate = Rate(20, 1)
    """Handshakes with which one address counts as a newcomer. Half of what all may cost is for newcomers only."""
    sessions_of_strangers: int = 4096
    """Sessions with keys that are not registered. Beyond that the oldest one of them ends."""
    sessions_of_peers: int = 16_384
    """Sessions with keys that are, or were. Beyond that, those end whose keys are not registered any longer."""

    posts_per_key: Rate = Rate(300, 20)
    """Messages to everyone. Where more than 100 people are online, each counts once for every 100 of them."""
    posts_per_address: Rate = Rate(3000, 100)
    """The same of all keys at one address."""

    rooms: int = 1000
    """Rooms on the server, with that of everyone. Of one key, or from one address, a quarter at most are created."""
    rooms_per_key: int = 100
    """Rooms that one key is in."""
    members_per_room: int = 10_000
    """Names that are in one room."""
    new_rooms_per_key: Rate = Rate(10, 1 / 60)
    """Rooms that are created with one key."""
    new_rooms_per_address: Rate = Rate(100, 1 / 6)
    """The same of all keys at one address."""
    room_requests_per_key: Rate = Rate(200, 20)
    """Requests about rooms, besides messages to them, with one key. To join or to leave one in which more than 100 are
    counts once for every 100 of them."""

    epochs_per_key: Rate = Rate(60, 1 / 10)
    """Changes of who is in private rooms, with one key. Each may be 23 KB."""

    letters_per_key: Rate = Rate(3000, 100)
    """Messages to one person that go through the server."""
    letters_per_address: Rate = Rate(10_000, 500)
    """The same of all keys at one address."""
    letters_per_mailbox_and_key: Rate = Rate(300, 100 / 60)
    """Letters from one key to one person."""

    messages_in_progress: int = attrs.field(default=1024, validator=attrs.validators.ge(MAX_SHARE))
    """Messages that wait for the store. More are not answered, and one key gets a quarter at most."""

    presence_connections: int = 10_000
    """Connections to the presence service, or fewer if fewer files may be open. One address gets a quarter at most."""
    presence_friends: int = 400_000
    """Friends whom all connections to it watch. Those of one address get a quarter at most."""
    presence_news: int = 1000
    """Changes that wait for one connection. Beyond that, of each friend the latest replaces the one before."""
    presence_work_per_connection: Rate = Rate(300_000, 50_000)
    """What is done for one connection, as bytes of JSON; a request counts as 1,000 of them (see presence/costs.py)."""
    presence_work_per_address: Rate = Rate(1_000_000, 2_000_000)
    """The same for all connections of one address."""
    presence_work: Rate = Rate(2_000_000, 5_000_000)
    """What is done for all connections: about a quarter of a processor core."""
    presence_work_of_newcomers: Rate = Rate(200_000, 20_000)
    """With which an address counts as a newcomer. Half of what is done for all is for newcomers only."""

    blocked: int = 100_000
    """Keys that the registered names block, all together. A list that is too long for what is left of it is left out:
    its owner is not shown as offline to those whom they block.
    """


LIMITS = Limits()
"""The limits of a server that was given no others."""


def is_fair(used: float, wanted: float, free: float) -> bool:
    """Whether somebody who uses this much of a thing that all share may use `wanted` more; so much of it is free."""
    return (used + wanted) * MAX_SHARE <= free


def origin(address: Address) -> str:
    """What limits count an address by: an IPv4 address, or the /64 network of an IPv6 address."""
    return _network(address[0])


# Remembered: it is asked for each datagram that may cost something, and to parse an address takes longer than to hash.
@lru_cache(maxsize=4096)
def _network(host: str) -> str:
    parsed = ip_address(host.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        return str(IPv6Address(int(parsed) >> IPV6_NETWORK_BITS << IPV6_NETWORK_BITS))
    return str(parsed)
