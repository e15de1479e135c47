"""The service without its server: the test does what server.py does, and reports the results to the service.

There is no clock: time moves by a fixed step at each request. The wall clock is 1,000,000 s ahead of the monotonic one,
so that a test notices if the service uses the wrong one.
"""

from functools import cache

import attrs

from trio_chat.crypto.identities import Identity, credentials
from trio_chat.link.session import Peer
from trio_chat.protocol.limits import LIMITS, Limits
from trio_chat.protocol.messages import Deregister, Elsewhere, Find, GroupPost, Register, Save
from trio_chat.protocol.records import EVERYONE, Credentials, Record, Version
from trio_chat.server.service import Admission, Service, Session

EPOCH = b"epoch..1"
WALL = 1_000_000.0
SERVER = Identity(b"s" * 32, b"S" * 32)
SERVER_KEY = SERVER.public.signing

_IDENTITIES = {
    one.public.link: one for one in (Identity(bytes((n,)) * 32, bytes((n + 100,)) * 32) for n in range(1, 5))
}
A, B, C, D = (Peer((f"10.0.0.{n}", n), link) for n, link in enumerate(_IDENTITIES, start=1))


def elsewhere(peer: Peer, address: tuple[str, int] = ("10.0.0.9", 9)) -> Peer:
    """The same person at another address."""
    return attrs.evolve(peer, address=address)


def identity_of(peer: Peer) -> Identity:
    """The private keys of A, B, C or D, at any address."""
    return _IDENTITIES[peer.key]


def credentials_of(peer: Peer, name: str) -> Credentials:
    """The credentials of A, B, C or D for a name."""
    return _credentials_of(peer.key, name)


@cache
def _credentials_of(key: bytes, name: str) -> Credentials:
    return credentials(_IDENTITIES[key], name=name, server_key=SERVER_KEY)


def program_at(peer: Peer) -> bytes:
    """The program that runs at an address, unless a test says otherwise."""
    return "{}:{}".format(*peer.address).encode().rjust(16, b".")


class BareServer:
    """A service, the rows that it reported, and new ids. At each request the clock moves by `pace` seconds.

    `now`: monotonic seconds. `wall`: what the wall clock shows more than that.
    """

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.published: list[Record] = []
        self.service = Service(SERVER_KEY, EPOCH, self.published.append, limits)
        self.now = 0.0
        self.pace = 1.0
        self.wall = WALL
        self._ids = 0

    def id(self) -> bytes:
        self._ids += 1
        return self._ids.to_bytes(16, "big")

    @property
    def at(self) -> float:
        """What the wall clock shows."""
        return self.wall + self.now

    def ask(self, peer, request):
        self.now += self.pace
        return self.service.receive(peer, request, self.now, self.at)

    def register(self, name, peer, *, shown=None, program=None, take_over=True):
        """Register a name, with the peer's own credentials unless others are `shown`, and `take_over` if need be."""
        outcome, request = self.register_once(name, peer, shown=shown, program=program)
        return self.take_over(peer, request, outcome) if take_over and isinstance(outcome, Elsewhere) else outcome

    def register_once(self, name, peer, *, shown=None, program=None):
        """The same without a takeover. Returns the outcome and the request."""
        shown = shown or credentials_of(peer, name)
        request = Register(self.id(), name, shown, program or program_at(peer))
        return self.ask(peer, request), request

    def take_over(self, peer, request, answer):
        """The program whose registration was answered with Elsewhere registers again."""
        return self.ask(peer, attrs.evolve(request, id=self.id(), takeover_at=answer.at))

    def enter(self, name, peer, **options) -> Session:
        """Register a name that is free or the peer's own."""
        admission = self.register(name, peer, **options)
        assert isinstance(admission, Admission)
        return admission.session

    def hold_table(self, session, version: Version | None = None) -> None:
        """The client of this session holds the table as it is now, or this version of it."""
        session.held = version or self.service.table.version

    def leave(self, peer):
        return self.ask(peer, Deregister(self.id()))

    def moved(self, before, after):
        self.service.moved(before, after, self.now)

    def save(self, peer, recipient, id=None):
        return self.ask(peer, Save(id or self.id(), recipient, b"sealed"))

    def post(self, peer, id=None, room=EVERYONE):
        return self.ask(peer, GroupPost(id or self.id(), b"signed", room))

    def find(self, peer, name):
        return self.ask(peer, Find(self.id(), name))

    def online(self) -> dict[str, Peer]:
        return {session.name: session.peer for session in self.service.online()}
