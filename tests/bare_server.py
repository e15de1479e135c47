"""A service without a shell: the test plays it. It keeps what is to be kept, hands over what is to be handed over,
and reports what came of it.
"""

from trio_chat.protocol.messages import Deregister, GroupPost, Register, Save, TableChange
from trio_chat.protocol.records import Record
from trio_chat.protocol.service import Admission, Contest, Registration, Service

EPOCH = b"epoch..1"
A, B, C, D = (("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3), ("10.0.0.4", 4))


class BareServer:
    """A service, the rows that it told, a clock that moves a second at each request, and new ids."""

    def __init__(self) -> None:
        self.told: list[Record] = []
        self.service = Service(EPOCH, self.told.append)
        self.now = 0.0
        self._ids = 0

    def id(self) -> bytes:
        self._ids += 1
        return self._ids.to_bytes(16, "big")

    def ask(self, peer, request):
        self.now += 1
        return self.service.receive(peer, request, self.now, 1000 + self.now)

    def register(self, name, peer):
        return self.ask(peer, Register(self.id(), name))

    def enter(self, name, peer) -> Registration:
        """Register a name that is free, and bring it the table."""
        admission = self.register(name, peer)
        assert isinstance(admission, Admission)
        self.bring_table(admission.registration)
        return admission.registration

    def bring_table(self, stay) -> None:
        while isinstance(change := self.service.next_step(stay, self.id()), TableChange):
            stay.held = change.after

    def leave(self, peer):
        return self.ask(peer, Deregister(self.id()))

    def save(self, peer, recipient, id=None):
        return self.ask(peer, Save(id or self.id(), recipient, "hi"))

    def post(self, peer, id=None):
        return self.ask(peer, GroupPost(id or self.id(), "hi all"))

    def contest(self, name, peer) -> tuple[Contest, Register]:
        request = Register(self.id(), name)
        contest = self.ask(peer, request)
        assert isinstance(contest, Contest)
        return contest, request

    def decide(self, contest, peer, request, *, alive):
        self.now += 1
        return self.service.decide(contest, alive, peer, request, self.now, 1000 + self.now)

    def finds_no_letters(self, stay) -> None:
        """A look into the store finds nothing, and nothing came while it was under way."""
        self.service.found_empty(stay.name, self.service.deposits(stay.name))

    def step(self, stay):
        return self.service.next_step(stay, self.id())

    def online(self) -> dict[str, tuple[str, int]]:
        return {stay.name: stay.peer for stay in self.service.online()}
