"""The promises of private rooms: who is in an epoch, who can open it, and what the server never has."""

from collections.abc import Iterator

from tests.simulation.freed_name import FREED
from tests.simulation.hostile import NAME
from tests.simulation.members import removed_surely
from tests.simulation.private_rooms import Post, RoomsKept
from tests.simulation.world import World
from tests.stage import identity_of
from trio_chat.crypto.identities import Identity
from trio_chat.crypto.letters import Unreadable
from trio_chat.crypto.room_keys import (
    RoomKey,
    SignedEpoch,
    epoch_of_post,
    open_sealed_post_untrusted,
    room_key_untrusted,
)
from trio_chat.errors import MembersNotTrusted, RoomFull, TheyAreInTooManyRooms, TooManyRooms
from trio_chat.protocol.epochs import Epoch

Found = tuple[str, str | None, set[str]]
"""As in invariants.py."""


def _all_epochs(rooms: RoomsKept) -> Iterator[SignedEpoch]:
    for room in rooms.epochs.values():
        for _, signed in room.values():
            yield signed


def _identities(world: World) -> dict[bytes, Identity]:
    """The keys of everybody, by the public one that epochs have of them."""
    own = (identity_of(name) for name in (NAME, *(person.name for person in (*world.people, *world.gone))))
    return {one.public.signing: one for one in (*own, *world.freed_name.identities)}


def _key(epoch: Epoch, identity: Identity) -> bytes | None:
    try:
        return room_key_untrusted(epoch, identity)
    except Unreadable:
        return None


def only_those_in_an_epoch_have_its_key(world: World) -> Iterator[Found]:
    everybody = _identities(world)
    seen: set[bytes] = set()
    for signed in _all_epochs(world.rooms):
        epoch = signed.epoch
        keys = {own: key for own, identity in everybody.items() if (key := _key(epoch, identity))}
        if keys.keys() != set(epoch.names.values()) or len(set(keys.values())) != 1 or seen & set(keys.values()):
            what = f"{len(keys)} of {len(everybody)} can open it"
            yield f"epoch {epoch.n} of {epoch.name} is of {set(epoch.names)}, and {what}", None, set(epoch.names)
        seen.update(keys.values())


def a_post_is_for_those_in_the_epoch_of_its_time(world: World) -> Iterator[Found]:
    messages = {id_: one for one in world.trace.messages.values() for id_ in one.ids}
    for post in world.rooms.posts:
        message, n = messages.get(post.id), epoch_of_post(post.body)
        present = max(n for n, (seq, _) in world.rooms.epochs[post.room].items() if seq < post.seq)
        if n != present:
            yield (
                f"entry {post.seq} is sealed in epoch {n}, and epoch {present} was the present one",
                None,
                {post.sender},
            )
            continue
        epoch = world.rooms.epochs[post.room][n][1]
        text = _text(post, epoch, _identities(world))
        if message is None or text != message.text:
            yield f"entry {post.seq} of {post.sender} is {text!r}", None, {post.sender}
        elif gone := removed_surely(world, message) & epoch.epoch.names.keys():
            yield f"{message.text!r} is sealed for {gone}, who had been removed", message.text, gone
    for message in world.trace.messages.values():
        if message.is_private and message.how == "posted" and not message.ids & {post.id for post in world.rooms.posts}:
            yield f"{message.text!r} was posted, and the server does not have it", message.text, {message.sender}


def _text(post: Post, signed: SignedEpoch, identities: dict[bytes, Identity]) -> str | None:
    """The text of a post, for each member of its epoch, if it is from one of them."""
    epoch, found = signed.epoch, set()
    sender = epoch.names.get(post.sender, b"")
    for own in epoch.names.values():
        room = RoomKey(epoch.room, epoch.name, epoch.n, signed.hash, _key(epoch, identities[own]) or bytes(32))
        try:
            opened = open_sealed_post_untrusted(post.body, room, sender, id=post.id, sender=post.sender)
        except Unreadable:
            return None
        found.add(opened.text)
    return found.pop() if len(found) == 1 else None


def the_server_never_has_the_words_of_private_rooms(world: World) -> Iterator[Found]:
    if world.rooms.has_words:
        yield "a text to a private room is on the server's disk", None, {"server"}


def all_members_know_the_present_epoch(world: World) -> Iterator[Found]:
    for room in world.rooms.epochs:
        present = world.rooms.present(room)
        for name, known in world.known.items():
            epoch = known.get(room)
            is_member = name in world.rooms.members.get(room, ())
            if is_member and epoch is None and _was_lost(world, name, world.rooms.begin(room)):
                continue
            if is_member and (epoch is None or epoch.hash != present.hash):
                what = f"epoch {epoch.epoch.n}" if epoch else "none"
                yield (
                    f"{name} knows {what} of {present.epoch.name}, and {present.epoch.n} is the present one",
                    None,
                    {name},
                )
            if not is_member and epoch is not None and not _has_perhaps_left(world, name, present.epoch.name):
                yield f"{name} has epoch {epoch.epoch.n} of {present.epoch.name}, and is not in it", None, {name}


def _was_lost(world: World, name: str, seq: int) -> bool:
    """Whether the epoch of this entry was taken and lost with a store. It is asked for when it is needed."""
    # Not by `position`: what was taken is in the server's memory up to a second before it is on its disk. It is written
    # at the latest when the program with the new store registers, and does not come again (seed 100135).
    return any(loss.name == name and seq in loss.epochs for loss in world.trace.losses)


def _has_perhaps_left(world: World, name: str, room: str) -> bool:
    """Whether they do not know that they have left: their program was killed before the answer was on its disk."""
    left = [one for one in world.trace.room_changes if (one.person, one.room, one.kind) == (name, room, "leave")]
    ends = [time for time, who in world.trace.ends if who == name]
    return any(one.is_done is None or any(one.begun <= time <= one.ended for time in ends) for one in left)


def who_has_left_is_not_in_the_present_epoch(world: World) -> Iterator[Found]:
    for room in world.rooms.epochs:
        epoch, members = world.rooms.present(room).epoch, world.rooms.members.get(room, set())
        owners = {name for name, key in epoch.names.items() if key in epoch.owners}
        if members - epoch.names.keys():
            yield f"the server has {members} in {epoch.name}, and the epoch {set(epoch.names)}", None, members
        away = {NAME, *(person.name for person in world.gone)}
        # Everybody else is online. Owners are not told that a name is somebody else's now.
        if (owners & members) - away and epoch.names.keys() - members - {FREED}:
            yield f"{epoch.names.keys() - members} have left {epoch.name} and are in epoch {epoch.n}", None, owners


def nobody_gets_into_the_rooms_of_others(world: World) -> Iterator[Found]:
    for answer in world.hostile.got:
        yield f"{NAME} was answered {answer}", None, {NAME}


def a_new_owner_of_a_name_is_in_no_room(world: World) -> Iterator[Found]:
    for message in world.freed_name.got:
        yield f"{FREED} got {message}, and has joined no room since they have the name", None, {FREED}


def nobody_is_kept_out_of_rooms(world: World) -> Iterator[Found]:
    for one in world.trace.room_changes:
        if isinstance(one.error, MembersNotTrusted | RoomFull | TheyAreInTooManyRooms | TooManyRooms):
            yield f"{one.person} could not {one.kind} {one.room} {one.about}: {one.error!r}", None, {one.person}


PRIVATE_PROMISES = (
    only_those_in_an_epoch_have_its_key,
    a_post_is_for_those_in_the_epoch_of_its_time,
    the_server_never_has_the_words_of_private_rooms,
    all_members_know_the_present_epoch,
    who_has_left_is_not_in_the_present_epoch,
    nobody_gets_into_the_rooms_of_others,
    a_new_owner_of_a_name_is_in_no_room,
    nobody_is_kept_out_of_rooms,
)
