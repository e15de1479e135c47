"""Somebody who has registered and runs loops: they try to use up what the others need. One of them is in each world.

They use real links and keys, and send whatever they want. What they get is counted; invariants.py compares it with the
limits. The limits of a world are lower than a server's, so that a few messages reach them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import trio

from tests.raw_peer import RawPeer
from tests.simulation.seed import now
from tests.simulation.trace import PRIVATE_ROOMS
from tests.stage import SERVER, SERVER_IDENTITY, identity_of
from trio_chat.crypto.identities import Identity
from trio_chat.crypto.letters import seal_letter, sign_post
from trio_chat.crypto.room_keys import NUMBER, SignedEpoch, read_epoch_untrusted, sign_epoch
from trio_chat.link.packets import WakeUpCall
from trio_chat.link.session import Peer
from trio_chat.protocol.limits import Limits, Rate
from trio_chat.protocol.messages import (
    Accepted,
    Answer,
    Batch,
    Delivered,
    Deregister,
    DirectMessage,
    Find,
    GroupPost,
    Heartbeat,
    Message,
    Part,
    PartAck,
    Refused,
    Register,
    Registered,
    Save,
    Saved,
    TableChange,
)
from trio_chat.protocol.parts import OutgoingRequest
from trio_chat.protocol.records import PublicKeys, room_id
from trio_chat.protocol.room_messages import (
    BeginEpoch,
    CreateRoom,
    GetEpoch,
    JoinRoom,
    ListMembers,
    ListRooms,
    RoomChanged,
    RoomList,
)
from trio_chat.protocol.wire import encode
from trio_chat.transport.ids import new_id

if TYPE_CHECKING:
    from tests.simulation.world import World

NAME = "mallory"
NETWORK = "2001:db8::"
"""A /64 network, all addresses of which are theirs."""

KEYS_KEPT = 40
"""Buckets of one kind that a server of a world keeps."""

WORLD_LIMITS = Limits(
    names=10 * KEYS_KEPT,
    names_per_key=6,
    new_rooms_per_key=Rate(5, 0.02),
    new_names_per_address=Rate(8, 1 / 600),
    rooms_per_key=30,
    epochs_per_key=Rate(30, 0.3),
    posts_per_key=Rate(40, 0.3),
    letters_per_key=Rate(100, 1),
    letters_per_mailbox_and_key=Rate(90, 1),
)
"""Honest people of a world need less: one of them may have sixty letters to send when the world is healed."""

LOOP = 80
"""How often a loop sends something: more than any limit of the world allows at once."""

PAUSE = 25.0
"""Seconds between two attacks, at most."""

SERVER_PEER = Peer(SERVER, SERVER_IDENTITY.public.link)


class Hostile:
    """The hostile participant. `granted`: how often they got what is limited, from which run of the server."""

    def __init__(self, world: World, seed: int) -> None:
        self.began = self.ended = 0.0
        self._world = world
        self._dice = random.Random(f"hostile {seed}")
        self._scope = trio.CancelScope()
        self._number = 0
        self.granted: Counter[tuple[str, int]] = Counter()
        self._program = self._dice.randbytes(16)
        self.got: list[Answer] = []
        """What they were answered about private rooms of others, but that they may not."""
        self._not_theirs: set[bytes] = set()
        self._creations: set[bytes] = set()

    async def run(self) -> None:
        """Attack until `stop` is called."""
        self.began = trio.current_time()
        with self._scope:
            async with trio.open_nursery() as nursery:
                own = await self._open(nursery, "10.0.9.1", identity_of(NAME))
                while True:
                    await self._register(own, NAME)
                    attack = self._dice.choice((*_OF_ONE, self.come_from_a_network, self.call_everybody))
                    self._world.trace.note(NAME, f"tries to {attack.__name__.replace('_', ' ')}")
                    if attack == self.come_from_a_network:
                        await self.come_from_a_network(nursery)
                    elif attack == self.call_everybody:
                        await self.call_everybody()
                    else:
                        for message, peer in attack(self, own):
                            own.send(peer, message)
                            # After a Register, until it has been stored.
                            await trio.sleep(0.3 if isinstance(message, Register) else 0.002)
                    await trio.sleep(self._dice.uniform(0.0, PAUSE))

    def stop(self) -> None:
        """End the program without a word."""
        self._scope.cancel()
        self.ended = trio.current_time()

    @property
    def names(self) -> set[str]:
        """The names of one key that are theirs at the end, as the others see it."""
        table = next(iter(self._world.tables.values())) or {}
        others = (f"{NAME}-net", f"{NAME}-freed")
        return {name for name in table if name.startswith(NAME) and not name.startswith(others)}

    async def _open(self, nursery: trio.Nursery, host: str, identity: Identity) -> RawPeer:
        peer = RawPeer(self._world.network, (host, 6000), identity)
        peer.answer = self._answer_in_network if host.startswith(NETWORK) else self._answer
        self._world.trace.hosts[host] = NAME
        nursery.start_soon(peer.listen)
        return peer

    async def _register(self, peer: RawPeer, name: str, **changes: object) -> bool:
        """Register a name, also if another program has it."""
        key = SERVER_IDENTITY.public.signing
        before = len(peer.of(Registered))
        peer.send(SERVER_PEER, peer.register(name, key, **({"program": self._program} | changes)))
        for _ in range(10):
            await trio.sleep(0.1)
            if len(peer.of(Registered)) > before:
                return True
        return False

    def _answer(self, message: Message) -> Answer | None:
        """They seem to be alive, and hold the table. What comes for them stays with the server."""
        run = self._world.server.runs
        if message.id in self._not_theirs and not isinstance(message, Refused | PartAck):
            self.got.append(message)
        match message:
            case Accepted():
                self.granted["posts", run] += 1
            case RoomChanged(of=CreateRoom.kind):
                self.granted["rooms", run] += 1
            case RoomChanged(of=BeginEpoch.kind, id=id_):
                self.granted["epochs", run] += 1
                self.granted["rooms", run] += id_ in self._creations
            case RoomList(rooms=rooms) if any(room.name in PRIVATE_ROOMS for room in rooms):
                self.got.append(message)
            case Saved() | Delivered():
                self.granted["letters", run] += 1
            case Heartbeat():
                return message.ack()
            case TableChange(after=after):
                return message.held(after)
            case Batch():
                return message.busy()
        return None

    def _answer_in_network(self, message: Message) -> Answer | None:
        if isinstance(message, Registered):
            self.granted["names of one network", self._world.server.runs] += 1
        return self._answer(message)

    def _as_this_program(self, own: RawPeer, name: str) -> Register:
        # Another program with this key would only be told that there is one.
        return own.register(name, SERVER_IDENTITY.public.signing, program=self._program)

    def _new_name(self) -> str:
        self._number += 1
        return f"{NAME}-{self._number}"

    # --- what they try ---

    def own_many_names(self, own: RawPeer) -> Iterator[tuple[Message, Peer]]:
        for _ in range(LOOP // 8):
            yield self._as_this_program(own, self._new_name()), SERVER_PEER

    def start_many_programs(self, own: RawPeer) -> Iterator[tuple[Message, Peer]]:
        for _ in range(LOOP // 4):
            yield own.register(NAME, SERVER_IDENTITY.public.signing), SERVER_PEER

    def come_and_go(self, own: RawPeer) -> Iterator[tuple[Message, Peer]]:
        for _ in range(LOOP // 8):
            yield Deregister(new_id()), SERVER_PEER
            yield self._as_this_program(own, NAME), SERVER_PEER

    def post_without_end(self, own: RawPeer) -> Iterator[tuple[Message, Peer]]:
        for _ in range(LOOP):
            id_ = new_id()
            yield GroupPost(id_, sign_post(own.identity, id=id_, sender=NAME, sent_at=now(), text="x")), SERVER_PEER

    def use_up_the_rooms(self, own: RawPeer) -> Iterator[tuple[Message, Peer]]:
        for _ in range(LOOP // 4):
            self._number += 1
            yield CreateRoom(new_id(), f"{NAME}-{self._number}"), SERVER_PEER

    def join_and_list_without_end(self, own: RawPeer) -> Iterator[tuple[Message, Peer]]:
        for _ in range(LOOP // 2):
            yield JoinRoom(new_id(), "red"), SERVER_PEER
            yield ListRooms(new_id()), SERVER_PEER

    def post_where_they_are_not(self, own: RawPeer) -> Iterator[tuple[Message, Peer]]:
        room = room_id(identity_of(self._world.people[0].name).public.signing, new_id())
        for _ in range(LOOP // 4):
            yield GroupPost(new_id(), b"x", room), SERVER_PEER

    def enter_private_rooms(self, own: RawPeer) -> Iterator[tuple[Message | bytes, Peer]]:
        """As somebody would who has been in it: they know its id and its epoch."""
        for name in PRIVATE_ROOMS:
            if present := self._world.trace.epochs.get(name):
                room, n = present.epoch.room, present.epoch.n
                post = GroupPost(new_id(), n.to_bytes(NUMBER, "big") + self._dice.randbytes(40), room)
                requests = (JoinRoom(new_id(), name), ListMembers(new_id(), room), GetEpoch(new_id(), room), post)
                people = {one.name: one.keys for one in present.epoch.members} | {NAME: own.identity.public}
                epoch = self._epoch(own, new_id(), present, people)
                for request in (*requests, epoch):
                    self._not_theirs.add(request.id)
                    yield from self._in_parts(request)
                yield ListRooms(new_id(), name[:-1]), SERVER_PEER

    def fill_the_rooms_of_others(self, own: RawPeer) -> Iterator[tuple[Message | bytes, Peer]]:
        """Put everybody into many rooms, so that they can be in no others; then remove them, and put them back."""
        people = {name: identity_of(name).public for name in self._world.trace.registered}
        for _ in range(LOOP // 10):
            request, present = new_id(), None
            self._creations.add(request)
            for members in (people, {}, people):
                epoch = self._epoch(own, request, present, members | {NAME: own.identity.public})
                yield from self._in_parts(epoch)
                request, present = new_id(), read_epoch_untrusted(epoch.epoch)

    def _epoch(
        self, own: RawPeer, request: bytes, before: SignedEpoch | None, people: dict[str, PublicKeys]
    ) -> BeginEpoch:
        """The next epoch of a room, or a new one, with these people; they are its only owner."""
        key = own.identity.public.signing
        self._number += 1
        signed = sign_epoch(
            own.identity,
            self._dice.randbytes(32),
            room=before.epoch.room if before else room_id(key, request, private=True),
            name=before.epoch.name if before else f"{NAME}-{self._number}",
            members=people.items(),
            owners=[key],
            before=before,
        )
        return BeginEpoch(request, signed.epoch.room, signed.epoch.n, signed.body)

    def _in_parts(self, request: Message) -> Iterator[tuple[bytes, Peer]]:
        for data in OutgoingRequest(request.kind, request.id, encode(request)).datagrams:
            yield data, SERVER_PEER

    def fill_a_mailbox(self, own: RawPeer) -> Iterator[tuple[Message, Peer]]:
        victim = self._dice.choice(self._world.people).name
        for _ in range(LOOP):
            yield self._letter(own, NAME, victim), SERVER_PEER

    def fill_a_mailbox_under_many_names(self, own: RawPeer) -> Iterator[tuple[Message, Peer]]:
        victim = self._dice.choice(self._world.people).name
        for number in range(1, WORLD_LIMITS.names_per_key):
            name = f"{NAME}-{number}"
            yield self._as_this_program(own, name), SERVER_PEER
            for _ in range(LOOP):
                yield self._letter(own, name, victim), SERVER_PEER

    def flood_a_person(self, own: RawPeer) -> Iterator[tuple[Message, Peer]]:
        victim = self._dice.choice(self._world.people)
        peer = Peer(victim.seen_at, identity_of(victim.name).public.link)
        for _ in range(LOOP):
            yield DirectMessage(new_id(), NAME, victim.name, "x"), peer

    def begin_and_not_finish(self, own: RawPeer) -> Iterator[tuple[Message, Peer]]:
        for _ in range(LOOP):
            yield Part(Save.kind, new_id(), 0, 2, b"x" * 1000), SERVER_PEER
            yield Find(new_id(), self._dice.choice(self._world.people).name), SERVER_PEER

    async def come_from_a_network(self, nursery: trio.Nursery) -> None:
        """Register new keys from ever new addresses of one network."""
        for _ in range(LOOP // 2):
            self._number += 1
            peer = await self._open(nursery, f"{NETWORK}{self._number:x}", Identity(*self._secrets()))
            peer.send(SERVER_PEER, peer.register(f"{NAME}-net-{self._number}", SERVER_IDENTITY.public.signing))
            await trio.sleep(0.01)

    async def call_everybody(self) -> None:
        """Forge the calls of a server that has started again, as somebody can who is near it."""
        for _ in range(LOOP):
            for person in self._world.people:
                self._world.network.inject(WakeUpCall().encode(), SERVER, person.address)
            await trio.sleep(0.05)

    def _secrets(self) -> tuple[bytes, bytes]:
        return self._dice.randbytes(32), self._dice.randbytes(32)

    def _letter(self, own: RawPeer, name: str, recipient: str) -> Save:
        id_ = new_id()
        to = identity_of(recipient).public
        body = seal_letter(own.identity, to, id=id_, sender=name, recipient=recipient, sent_at=now(), text="x")
        return Save(id_, recipient, body)


_OF_ONE: tuple[Callable[[Hostile, RawPeer], Iterator[tuple[Message | bytes, Peer]]], ...] = (
    Hostile.own_many_names,
    Hostile.start_many_programs,
    Hostile.come_and_go,
    Hostile.post_without_end,
    Hostile.use_up_the_rooms,
    Hostile.join_and_list_without_end,
    Hostile.post_where_they_are_not,
    Hostile.enter_private_rooms,
    Hostile.fill_the_rooms_of_others,
    Hostile.fill_a_mailbox,
    Hostile.fill_a_mailbox_under_many_names,
    Hostile.flood_a_person,
    Hostile.begin_and_not_finish,
)
