"""The promises, one named check for each. They are checked when the simulated world has ended."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise

import attrs

from tests.simulation.crashes import Found, ended_within, is_gone, is_lost, may_come_again, recipients, shown_at
from tests.simulation.freed_name import FREED
from tests.simulation.hostile import KEYS_KEPT, NAME, WORLD_LIMITS
from tests.simulation.members import members_perhaps
from tests.simulation.outbox_events import NOBODY
from tests.simulation.outbox_invariants import OUTBOX_PROMISES, is_lost_in_a_kill
from tests.simulation.private_invariants import PRIVATE_PROMISES
from tests.simulation.sizes import WAITING_ROWS
from tests.simulation.trace import Message
from tests.simulation.world import RETURN_WITHIN, World
from trio_chat.client.events import (
    Event,
    ForgedReceiptReceived,
    GroupMessageReceived,
    KeyWarning,
    LetterReceived,
    LetterUnreadable,
    MessageNotDelivered,
    MessageNotOpened,
    ReceiptReceived,
    RoomNotTrusted,
    SecondTextReceived,
    SignedOff,
    WrongReceiptReceived,
)
from trio_chat.errors import (
    NoSuchRoom,
    NotAMember,
    NotRegistered,
    RoomIsPrivate,
    ServerNotResponding,
    TriedTooLong,
    UnknownRecipient,
)
from trio_chat.protocol.messages import DirectMessage

KEPT = {
    "DuplicateMemory._known",  # answers, to repeat them
    "DuplicateMemory._of_sender",
    "SqliteClientStore._seen",  # ids of 30 days
    "TokenBuckets._buckets",  # rates of senders and hosts
    "DirectSender._silent",  # at most one for each name
    "DirectSender._elsewhere",  # the same
    "KeyPins._verified",  # at most one for each name
    "KeyPins._warned",  # at most one for each name
    "Links._hellos",  # at most one for each server that has not answered yet
    "Views._owners",  # at most one for each key that has owned a name
    "Acknowledged.receipts",  # of the latest batch, which a variable of the loop still holds
    "SecondTexts._warned",  # one warning for each sender and run
    "Inbox._told",  # an id that was used twice may stay
    "SentLetters._letters",  # also letters of which nobody knows whether the server ever got them
    "Log._shared",  # what comes at each position, until something is appended
    "Log._entries",  # the newest part of the log, up to a limit
    "Throttle._in_progress",  # one for each limit
    "Throttle.refusals",
    "RoomSessions._sessions",  # rooms, and who is in them, have limits of their own
    "RoomSessions._ids",
    "RoomSessions.names",
    "Session.rooms",
    "Session.left",
    "Memberships._rooms",
    "Memberships._left",
    "Memberships._heard",
    "ServerTable._rows",  # with the names of the hostile participant, which have a limit: see below
    "ServerTable._names_of",
    "ClientTable._records",
    "SqliteClientStore._pins",
    "Epochs._present",  # at most one for each private room that one is in
    "Epochs._ended",  # at most one for each private room that one was removed from
    "Epochs._behind",  # at most one for each private room that one is in
    "Epochs._not_ours",  # at most one for each private room that one is in
    "Epochs._earliest",  # at most one for each private room that one is in
    "Epochs._left",  # rooms that one has left, up to MAX_IGNORED
    "Epochs._latest",  # at most one for each private room that one was ever in
    "Epochs._known",  # the keys of past epochs, for posts that come again after a crash
    "KeptEpochs._kept",  # the same, up to ROOM_KEYS_KEPT
    "_Known.members",  # at most MAX_PRIVATE_MEMBERS in each of them
}
"""What may grow while a program runs, each up to a limit of its own."""

FOR_THE_GONE = {*WAITING_ROWS["server"], "SentLetters._at_server"}
"""What may grow if somebody's key was lost: nobody takes what waits for the name that they had."""

RENEWED = {"SessionTable._strangers", "SessionTable._by_index"}
"""An old and a new one of these may exist at the same time."""


@attrs.frozen
class Fault:
    """A promise that was broken: what happened instead, the message (if it is about one), and the people concerned."""

    promise: str
    what: str
    text: str | None = None
    people: frozenset[str] = frozenset()


def what_was_received_is_shown(world: World) -> Iterator[Found]:
    for message in world.trace.messages.values():
        # Of two texts with one id only the first is shown. The second must not be confirmed by its recipient.
        if message.how not in ("direct", "relayed", *(("saved", "posted") if message.is_honest else ())):
            continue
        for name in recipients(world, message, message.known):
            if shown_at(world, name, message.text) or is_lost(world, name, message):
                continue
            if message.how == "direct" and is_lost_in_a_kill(world, name, message):
                continue
            yield f"{message.text!r} was {message.how} and {name} was never shown it", message.text, {name}


def nothing_is_shown_twice(world: World) -> Iterator[Found]:
    for name, shown in world.trace.shown.items():
        for text, count in Counter(getattr(event, "text", None) for _, _, event in shown).items():
            times = shown_at(world, name, text) if text is not None else []
            message = world.trace.messages.get(text)
            repeats = [
                time
                for time, again in pairwise(times)
                if not ended_within(world, name, time, time)
                and not (message and may_come_again(world, name, message, time, again))
            ]
            if count > 1 and repeats:
                yield f"{name} was shown {text!r} at {times}", text, {name}


def is_for(world: World, name: str, message: Message, event: Event) -> bool:
    """Whether the message was sent to them, and to the room of which it was shown."""
    if getattr(event, "room", "") != message.room:
        return False
    if message.room:
        return name in members_perhaps(world, message) and name != message.sender
    return name in recipients(world, message, world.trace.shown)


def nothing_is_shown_that_was_not_sent(world: World) -> Iterator[Found]:
    for name, shown in world.trace.shown.items():
        for _, _, event in shown:
            text = getattr(event, "text", None)
            if text is None:
                continue
            message = world.trace.messages.get(text)
            if message is None or message.sender != event.sender or not is_for(world, name, message, event):
                yield f"{name} was shown {event}", text, {name}


def each_saved_message_has_one_receipt(world: World) -> Iterator[Found]:
    for message in world.trace.messages.values():
        if message.how != "saved" or is_gone(world, message.recipient):
            continue
        # It is told by recipient and time. Two messages may be sent at the same moment: then there are two.
        got = [
            time
            for time, _, event in world.trace.shown[message.sender]
            if event == ReceiptReceived(message.recipient, message.sent_at)
        ]
        same = [one for one in world.trace.messages.values() if _is_told_like(world, one, message)]
        late = [time for time in got[: -len(same)] if not ended_within(world, message.sender, time, time)]
        # Who does not know what they have sent is shown no receipt for it.
        if any(loss.name == message.sender and loss.time >= message.begun for loss in world.trace.losses):
            continue
        if message.is_honest and (len(got) < sum(one.is_honest and one.how == "saved" for one in same) or late):
            yield f"{message.text!r} was saved at {message.sent_at} and has receipts at {got}", message.text, set()


def _is_told_like(world: World, one: Message, other: Message) -> bool:
    """Whether the receipts of two messages look the same. The sender may not have been told that one was saved.

    An outbox may give a message to a server, get no answer, and then reach its recipient (seed 80045).
    """
    return (
        (one.how in ("saved", "unknown") or (one.queued is not None and not one.ids.isdisjoint(world.trace.places)))
        and (one.sender, one.recipient) == (other.sender, other.recipient)
        and one.sent_at in (other.sent_at, None)
    )


def whoever_is_online_can_send(world: World) -> Iterator[Found]:
    for message in world.trace.messages.values():
        # They may have left the room in the same moment, or their program has just forgotten that they are in it.
        allowed = NotRegistered | NotAMember if message.room else NotRegistered
        # They may have been removed. If their store was lost, they do not know that there is such a room.
        allowed = allowed | NoSuchRoom | RoomIsPrivate if message.is_private else allowed
        # While one waits for its turn or for an answer, the clock may be set, or a server may be silent.
        if message.queued and message.sender in world.trace.wrong_clocks:
            allowed = allowed | TriedTooLong
        if not message.queued and message.begun < world.healed_at:
            allowed = allowed | ServerNotResponding
        if message.recipient == NOBODY:
            allowed = allowed | UnknownRecipient
        if message.is_honest and not isinstance(message.error, allowed | None):
            yield f"{message.sender} could not send {message.text!r}: {message.error!r}", message.text, set()


def everyone_is_shown_the_servers_order(world: World) -> Iterator[Found]:
    if any(_out_of_order(world, set())):
        # A message that came directly to a program that was killed is shown by the next one, as a letter. It may be at
        # the server, too (seed 80175). `of` is what a part is of. All datagrams are looked at: only if that is needed.
        arrived = (one.data for one in world.trace.network.log if one.delays)
        sent = [message for data in arrived for message in world.trace.tap.messages(data)]
        kind = DirectMessage.kind
        direct = {one.id for one in sent if kind in (getattr(one, "kind", 0), getattr(one, "of", 0))}
        yield from _out_of_order(world, direct)


def _out_of_order(world: World, direct: set[bytes]) -> Iterator[Found]:
    for name, shown in world.trace.shown.items():
        latest: dict[int, int] = {}
        for _, run, event in shown:
            if not isinstance(event, LetterReceived | GroupMessageReceived):
                continue
            # Unknown: the server's disk failed after it was written, and nobody was told.
            ids = world.trace.messages[event.text].ids
            place = next((world.trace.places.get(id_, 0) for id_ in ids - direct), 0)
            if 0 < place < latest.get(run, 0):
                yield f"{name} was shown {event}, which is entry {place}, after entry {latest[run]}", event.text, {name}
            latest[run] = place or latest.get(run, 0)


def a_post_that_one_was_shown_is_shown_to_all(world: World) -> Iterator[Found]:
    for message in world.trace.messages.values():
        if message.recipient is None:
            meant = recipients(world, message, message.known)
            missing = {name for name in meant if not shown_at(world, name, message.text)}
            missing = {name for name in missing if not is_lost(world, name, message)}
            if missing and any(shown_at(world, name, message.text) for name in world.trace.shown):
                yield f"{message.text!r} was shown to some, but not to {missing}", message.text, missing


def a_room_that_is_there_was_created_by_another(world: World) -> Iterator[Found]:
    creations = [one for one in world.trace.room_changes if one.kind == "create"]
    for one in creations:
        others = [other for other in creations if other is not one and other.room == one.room]
        if one.is_done is False and not any(other.begun <= one.ended for other in others):
            yield f"{one.person} was told that {one.room} exists, and nobody else created it", None, {one.person}


def positions_never_go_back(world: World) -> Iterator[Found]:
    for name, before, after in world.trace.moved_back:
        yield f"{name} had the position {before}, and after that {after}", None, {name}


def no_false_warning_is_shown(world: World) -> Iterator[Found]:
    warnings = (
        ForgedReceiptReceived,
        KeyWarning,
        LetterUnreadable,
        MessageNotDelivered,
        MessageNotOpened,
        RoomNotTrusted,
        SecondTextReceived,
        SignedOff,
        WrongReceiptReceived,
    )
    deceitful = {(one.sender, one.recipient) for one in world.trace.messages.values() if not one.is_honest}
    for name, shown in world.trace.shown.items():
        for _, _, event in shown:
            # Deserved: the name has a new owner.
            if not isinstance(event, warnings) or (isinstance(event, KeyWarning) and event.name == FREED):
                continue
            # Deserved: of two texts with one id only the first was shown, and confirmed.
            if isinstance(event, MessageNotOpened | WrongReceiptReceived) and (name, event.recipient) in deceitful:
                continue
            if isinstance(event, SecondTextReceived) and (event.sender, name) in deceitful:
                continue
            yield f"{name} was shown {event}", None, {name}


def everyone_is_online_at_the_end(world: World) -> Iterator[Found]:
    for name, online in world.online.items():
        if not online:
            yield f"{name} is offline", None, {name}
    for name, table in world.tables.items():
        missing = {
            record.name for record in (table or {}).values() if record.name in world.online and not record.online
        }
        if table is None or missing:
            yield f"{name}'s table shows {missing or 'everybody'} offline", None, {name} | missing


def a_killed_client_is_marked_offline(world: World) -> Iterator[Found]:
    unaware = {person.name for person in world.people[1:]} - world.aware
    if unaware:
        yield f"the tables of {unaware} still showed {world.people[0].name} online", None, unaware


def nobody_is_wrongly_marked_offline(world: World) -> Iterator[Found]:
    for time, name in world.trace.wrongly_offline:
        yield f"{name} was marked offline at {time}, and was online", None, {name}


def all_tables_are_equal(world: World) -> Iterator[Found]:
    (name, first), *others = world.tables.items()
    for other, table in others:
        # Who began their table while somebody was away does not have that row.
        names = {row.name for row in (*(first or {}).values(), *(table or {}).values()) if row.online}
        names |= (first or {}).keys() & (table or {}).keys()
        if any(table is None or first is None or table.get(one) != first.get(one) for one in names):
            yield f"{other} has {table}, {name} has {first}", None, {name, other}


def nobody_gets_more_than_the_limits(world: World) -> Iterator[Found]:
    hostile = world.hostile
    rates = {
        "posts": WORLD_LIMITS.posts_per_key,
        "letters": WORLD_LIMITS.letters_per_key,
        "rooms": WORLD_LIMITS.new_rooms_per_key,
        "epochs": WORLD_LIMITS.epochs_per_key,
        "names of one network": WORLD_LIMITS.new_names_per_address,
    }
    # Rates are in memory: a server that is restarted begins with full buckets.
    for (what, run), number in hostile.granted.items():
        most = rates[what].at_once + rates[what].a_second * (hostile.ended - hostile.began)
        # Names that were registered in runs before, and whose answers were lost, are answered now (seeds 20040, 30110).
        before = sum(
            granted for (other, earlier), granted in hostile.granted.items() if other == what and earlier < run
        )
        if number + before > most * run:
            yield f"they got {number} {what} from run {run} of the server, {most:.0f} are allowed", None, {NAME}
    if len(hostile.names) > WORLD_LIMITS.names_per_key:
        yield f"one key owns {hostile.names}", None, {NAME}
    if world.sizes[1]["largest TokenBuckets._buckets"] > KEYS_KEPT:
        yield f"{world.sizes[1]['largest TokenBuckets._buckets']} buckets are kept", None, {NAME}


def everything_is_back_to_its_idle_size(world: World) -> Iterator[Found]:
    at_first, at_last = world.sizes
    may_grow = KEPT | FOR_THE_GONE if world.gone else KEPT
    for what, size in sorted(at_last.items()):
        if what.removeprefix("largest ") not in may_grow and size > at_first[what] * (
            1 + (what.removeprefix("largest ") in RENEWED)
        ):
            yield f"{what}: {size} at the end, {at_first[what]} when all had just registered", None, set()


def whom_a_restarted_server_calls_is_back_soon(world: World) -> Iterator[Found]:
    for name in world.not_returned:
        yield f"{name} was not registered again {RETURN_WITHIN} s after the server's restart", None, {name}


PROMISES: tuple[Callable[[World], Iterator[Found]], ...] = (
    what_was_received_is_shown,
    nothing_is_shown_twice,
    nothing_is_shown_that_was_not_sent,
    each_saved_message_has_one_receipt,
    whoever_is_online_can_send,
    everyone_is_shown_the_servers_order,
    a_post_that_one_was_shown_is_shown_to_all,
    a_room_that_is_there_was_created_by_another,
    positions_never_go_back,
    no_false_warning_is_shown,
    everyone_is_online_at_the_end,
    a_killed_client_is_marked_offline,
    nobody_is_wrongly_marked_offline,
    all_tables_are_equal,
    nobody_gets_more_than_the_limits,
    everything_is_back_to_its_idle_size,
    whom_a_restarted_server_calls_is_back_soon,
    *OUTBOX_PROMISES,
    *PRIVATE_PROMISES,
)


def broken(world: World) -> list[Fault]:
    """The promises that this world broke."""
    return [
        Fault(promise.__name__.replace("_", " "), what, text, frozenset(people))
        for promise in PROMISES
        for what, text, people in promise(world)
    ]
