"""The results of a conversation as the phrases that people see; the phrases are in phrases.py.

Whatever another person or the server wrote is escaped here. When something is shown is decided in conversation.py.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import attrs

from trio_chat import errors
from trio_chat.client import events
from trio_chat.client.rooms import RoomInfo
from trio_chat.presence.messages import FriendChanged
from trio_chat.protocol.records import EVERYONE_NAME, fold
from trio_chat.terminal import commands, members_words, outbox_words, refusals, results, unfinished
from trio_chat.terminal.phrases import Phrase, Wording
from trio_chat.terminal.styling import LINE_END, Line, mentions
from trio_chat.terminal.styling import LineStyle as Style

TAB = 4
"""Columns from one tab stop to the next, counted from the beginning of each line of a text."""
MAX_TEXT_LINES = 200
"""Later line ends of a text are escaped: 16 KiB of line ends would fill the screen, and take half a second to print."""

_ENTRIES = ((Phrase.ENTRY, Phrase.POST, Phrase.ROOM_POST), (Phrase.OWN_ENTRY, Phrase.OWN_POST, Phrase.OWN_ROOM_POST))
"""By `HistoryEntry.sent`, then: to one person, to everyone, to a room."""
_WRITTEN = " (written {clock} by their clock)"
"""What follows a message that its sender wrote at another time: it waited for the server, or their clock is wrong."""
_ERRORS: dict[type[errors.ChatError], Phrase] = {
    errors.NotRegistered: Phrase.OFFLINE,
    refusals.AlreadyRegistered: Phrase.ALREADY_REGISTERED,
    refusals.OnlyYourself: Phrase.ONLY_YOURSELF,
    refusals.GroupsUnknown: Phrase.GROUPS_UNKNOWN,
    errors.InvalidRecipient: Phrase.TO_ONESELF,
    errors.InvalidName: Phrase.INVALID_NAME,
    errors.UnknownRecipient: Phrase.UNKNOWN_NAME,
    errors.MailboxFull: Phrase.MAILBOX_FULL,
    errors.RoomExists: Phrase.ROOM_EXISTS,
    errors.NoSuchRoom: Phrase.NO_SUCH_ROOM,
    errors.NotAMember: Phrase.NOT_A_MEMBER,
    errors.RoomFull: Phrase.ROOM_FULL,
    errors.TooManyRooms: Phrase.TOO_MANY_ROOMS,
    errors.NoMoreRooms: Phrase.NO_MORE_ROOMS,
    errors.RoomIsPrivate: Phrase.ROOM_IS_PRIVATE,
    errors.RoomIsOpen: Phrase.ROOM_IS_OPEN,
    errors.NotAnOwner: Phrase.NOT_AN_OWNER,
    errors.NotInRoom: Phrase.NOT_IN_ROOM,
    errors.RemovedYourself: Phrase.REMOVED_YOURSELF,
    errors.LastOwner: Phrase.LAST_OWNER,
    errors.TheyAreInTooManyRooms: Phrase.THEY_ARE_IN_TOO_MANY,
    errors.MembersNotTrusted: Phrase.MEMBERS_NOT_TRUSTED,
    errors.NoHistory: Phrase.NO_HISTORY,
    errors.ServerNotResponding: Phrase.NO_SERVER,
    errors.NameTaken: Phrase.NAME_TAKEN,
    errors.SignedInElsewhere: Phrase.SIGNED_IN_ELSEWHERE,
    errors.Kicked: Phrase.KICKED,
    errors.Banned: Phrase.BANNED,
    errors.NameDeleted: Phrase.NAME_DELETED,
    errors.ServerKeyChanged: Phrase.SERVER_KEY_CHANGED,
    errors.ServerTooOld: Phrase.SERVER_TOO_OLD,
    errors.ServerTooNew: Phrase.SERVER_TOO_NEW,
    errors.NotOpened: Phrase.NOT_OPENED,
    errors.WrongReceipt: Phrase.WRONG_RECEIPT,
    errors.ForgedReceipt: Phrase.FORGED_RECEIPT,
}
"""The phrases of errors whose only fields are a name, a room and two keys."""
_NOT_SHOWN = {events.LetterUnreadable: Phrase.UNREADABLE, events.SecondTextReceived: Phrase.TWO_TEXTS}
_SENT = {"direct": Phrase.RECEIVED, "relayed": Phrase.RELAYED, "saved": Phrase.SAVED}
_BY_SERVER = {events.Fallback.NO_ACK: Phrase.NO_ACK, events.Fallback.OFFLINE: Phrase.KNOWN_AWAY}

_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000), *_BIDI)
_ESCAPES = {code: chr(code).encode("unicode_escape").decode("ascii") for code in _CONTROLS}


def escape(text: str) -> str:
    r"""The text with control characters, line separators, surrogates and bidi controls shown as `\x1b`, `\u202e`."""
    return text.translate(_ESCAPES)


def show_address(address: tuple[str, int]) -> str:
    """An address as it is typed: HOST:PORT, an IPv6 host in brackets. Empty if the host is."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else host and f"{host}:{port}"


@attrs.frozen
class Phrasebook:
    """Results -> the lines that show them in one wording. `owner` is the reader's name, for mentions in a group.

    `is_at_terminal`: a person reads, not a program. `now`: seconds since 1970; other days than today are named.
    """

    wording: Wording = Wording.GROUP
    owner: str = ""
    is_at_terminal: bool = False
    now: Callable[[], float] = time.time

    lists_changed_table = False

    def render(self, result: results.Result | FriendChanged) -> tuple[Line, ...]:
        """The lines for a result; none if this wording has no words for it."""
        match result:
            case results.SignedOn():
                return self.lines(Phrase.REGISTERED)
            case results.RegistrationSent():
                return self.lines(Phrase.REG_SENT)
            case results.CameBack(waiting):
                return self.lines(Phrase.HAS_LETTERS if waiting else Phrase.NO_LETTERS)
            case results.WentOffline():
                return self.lines(Phrase.DEREGISTERED)
            case results.SentByServer() | results.MessageSent() | results.MessageUnsent():
                return self._message(result)
            case _ if isinstance(result, results.OutboxResult):
                return self._all(outbox_words.words_of_outbox(result))
            case _ if isinstance(result, results.RoomResult):
                return self._room(result)
            case results.TableList(rows, since, online):
                old = () if online else self.lines(Phrase.TABLE_OFFLINE)
                return self._table(rows) + (old if since is None else self.lines(Phrase.TABLE_OLD, at=since))
            case results.KeyTrusted(name, key):
                return self.lines(Phrase.TRUSTED, name=name, key=key)
            case results.PersonBlocked() | results.PersonUnblocked() | results.BlockedList():
                return self._blocking(result)
            case results.HistoryList(entries):
                return self._history(entries)
            case results.CommandList(lines):
                return tuple(map(Line, lines))
            case results.Failed(error):
                return self._error(error)
            case results.CommandFailed():
                return self._failed(result)
            case results.NoAnswer(command):
                return self.lines(Phrase.NO_ANSWER, text=command)
            case results.ProgramInterrupted():
                return self.lines(Phrase.INTERRUPTED)
            case FriendChanged(friend, is_online):
                return self.lines(Phrase.FRIEND_ONLINE if is_online else Phrase.FRIEND_AWAY, name=str(friend))
            case _:
                return self._event(result)

    def paste_question(self, count: int, command: str) -> str:
        """The question before `count` pasted lines are run. `command`: each is sent with it; empty: it is a command."""
        return self.lines(Phrase.PASTE_SENDS if command else Phrase.PASTE, count=count, text=command)[0].text

    def paste_dropped(self, count: int) -> tuple[Line, ...]:
        """What is said if the answer is no."""
        return self.lines(Phrase.PASTE_DROPPED, count=count)

    def lines(
        self,
        phrase: Phrase,
        *,
        name: str = "",
        room: str = "",
        text: str = "",
        at: float = 0,
        count: int = 0,
        key: str = "",
        pinned: str = "",
        clock: float | None = None,
    ) -> tuple[Line, ...]:
        """The lines of a phrase.

        `at` is in seconds since 1970, shown as local time or as the number; `clock` is the sender's time, if it has to
        be shown; `key` is somebody's fingerprint now, and `pinned` the one before. Each line of the text is a line.
        """
        template = phrase.group if self.wording is Wording.GROUP else phrase.channel
        if clock is not None:
            template += _WRITTEN
        then, today = time.localtime(clock or 0), time.localtime(self.now())
        fields = {
            "name": escape(name),
            "room": escape(room),
            "time": time.strftime("%H:%M:%S", time.localtime(at)),
            "date": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)),
            "stamp": f"({at:.3f})",
            "clock": time.strftime("%H:%M" if then[:3] == today[:3] else "%Y-%m-%d %H:%M", then),
            "count": str(count),
            "key": escape(key),
            "pinned": escape(pinned),
        }
        return tuple(line for part in template.split(" / ") if part for line in _fill(phrase.style, part, text, fields))

    def _all(self, words: Iterable[outbox_words.Words]) -> tuple[Line, ...]:
        return tuple(line for phrase, fields in words for line in self.lines(phrase, **fields))

    def _event(self, event: events.Event) -> tuple[Line, ...]:
        match event:
            case events.MessageReceived(sender, text, clock):
                return _ringing(self.lines(Phrase.MESSAGE, name=sender, text=text, clock=clock))
            case events.GroupMessageReceived(sender, text, clock, room):
                phrase = Phrase.ROOM_MESSAGE if room else Phrase.GROUP_MESSAGE
                return self._with_mention(text, self.lines(phrase, name=sender, room=room, text=text, clock=clock))
            case events.LetterReceived(sender, text, sent_at, group, first, clock, room):
                heading = self.lines(Phrase.LETTERS) if first else ()
                phrase = Phrase.ROOM_LETTER if room else Phrase.GROUP_LETTER if group else Phrase.LETTER
                lines = self.lines(phrase, name=sender, room=room, text=text, at=sent_at, clock=clock)
                return heading + (self._with_mention(text, lines) if group else _ringing(lines))
            case events.OutgoingChanged():
                return self._outgoing(event)
            case events.ReceiptReceived(recipient, sent_at):
                return self.lines(Phrase.RECEIPT, name=recipient, at=sent_at)
            case events.MessageNotOpened(recipient, sent_at):
                return self.lines(Phrase.SAVED_NOT_OPENED, name=recipient, at=sent_at)
            case events.MessageNotDelivered(recipient, sent_at):
                return self.lines(Phrase.NOT_DELIVERED, name=recipient, at=sent_at)
            case events.WrongReceiptReceived(recipient):
                return self.lines(Phrase.WRONG_RECEIPT, name=recipient)
            case events.ForgedReceiptReceived(recipient):
                return self.lines(Phrase.FORGED_RECEIPT, name=recipient)
            case events.LetterUnreadable(sender) | events.SecondTextReceived(sender):
                return self.lines(_NOT_SHOWN[type(event)], name=sender)
            case events.KeyWarning(name, pinned, offered):
                return self.lines(Phrase.KEY_CHANGED, name=name, pinned=pinned, key=offered)
            case events.GroupMessagesMissed(count, room):
                return self.lines(Phrase.ROOM_MISSED if room else Phrase.MISSED, count=count, room=room)
            case events.TableChanged():
                return self.lines(Phrase.TABLE_CHANGED)
            case events.ServerSilent(since, waiting):
                return self._silent(since, waiting)
            case events.ServerBack():
                return self.lines(Phrase.SERVER_BACK)
            case events.SignedOff(error):
                return self._error(error)
        return self._all(members_words.words_of_members(event, self.owner))

    def _silent(self, since: float, waiting: int) -> tuple[Line, ...]:
        lines = self.lines(Phrase.SERVER_SILENT, at=since)
        return lines + (self.lines(Phrase.ALL_SILENT, count=waiting) if waiting else ())

    def _outgoing(self, change: events.OutgoingChanged) -> tuple[Line, ...]:
        phrase, fields = outbox_words.words_of_change(change)
        why = self._error(change.error) if change.error and change.state is events.MessageState.FAILED else ()
        return self.lines(phrase, **fields) + why

    def queued(self, change: events.OutgoingChanged) -> tuple[Line, ...]:
        """The line for a message that has to wait, if this program does not send it any more."""
        to = outbox_words.destination(change.recipient, change.room)
        return self.lines(Phrase.MESSAGE_QUEUED, text=to, key=outbox_words.reason(change, with_advice=False))

    def _message(self, result: results.SentByServer | results.MessageSent | results.MessageUnsent) -> tuple[Line, ...]:
        match result:
            case results.SentByServer(recipient, reason):
                return self.lines(_BY_SERVER[reason], name=recipient) if reason in _BY_SERVER else ()
            case results.MessageSent(recipient, how, sent_at):
                return self.lines(_SENT[how], name=recipient, at=sent_at or 0.0)
            case results.MessageUnsent(to, in_group):
                # The ancestors end `send` and `send_all` without it, and a pipe gets what they print.
                return self.lines(Phrase.UNSENT, text=to) if in_group or self.is_at_terminal else ()

    def _room(self, result: results.RoomResult) -> tuple[Line, ...]:
        match result:
            case results.PostAccepted(room):
                return self.lines(Phrase.ROOM_POSTED if room else Phrase.POSTED, room=room)
            case results.RoomCreated(room, private):
                return self.lines(Phrase.CREATED_PRIVATE if private else Phrase.CREATED, room=room)
            case results.MemberInvited(room, name):
                return self.lines(Phrase.INVITED, room=room, name=name)
            case results.MemberRemoved(room, name):
                return self.lines(Phrase.REMOVED, room=room, name=name)
            case results.OwnerAdded(room, name):
                return self.lines(Phrase.OWNER_ADDED, room=room, name=name)
            case results.RoomJoined(room):
                return self.lines(Phrase.ENTERED, room=room)
            case results.RoomLeft(room, current):
                now = self.lines(Phrase.CURRENT_NOW, room=current) if current else ()
                return self.lines(Phrase.LEFT, room=room) + now
            case results.RoomsList(rooms, current):
                # Everyone is in that room, and nobody can join it or leave it: it is no group to choose.
                listed = [one for one in rooms if one.name != EVERYONE_NAME or one.name == current]
                rows = [self.lines(phrase, room=text) for phrase, text in (_room_row(one, current) for one in listed)]
                return (*self.lines(Phrase.ROOMS), *chain.from_iterable(rows))
            case results.MembersList(room, names) | results.OwnersList(room, names):
                of_owners = Phrase.OWNERS if names else Phrase.NO_OWNERS
                heading = Phrase.MEMBERS if isinstance(result, results.MembersList) else of_owners
                gone = result.gone if isinstance(result, results.MembersList) else ()
                rows = [
                    self.lines(Phrase.GONE_MEMBER_ROW if name in gone else Phrase.MEMBER_ROW, room=room, name=name)
                    for name in names
                ]
                return (*self.lines(heading, room=room), *chain.from_iterable(rows))

    def _with_mention(self, text: str, lines: tuple[Line, ...]) -> tuple[Line, ...]:
        return _ringing(lines, self.owner) if mentions(text, self.owner) else lines

    def _table(self, rows: Iterable[results.TableRow]) -> tuple[Line, ...]:
        """A heading and a row for each person, in columns as wide as their widest cell."""
        # Escaped first: the width of a cell is that of what is shown.
        shown = [(row, escape(row.name), escape(show_address((row.host, row.port))), escape(row.key)) for row in rows]
        heading = ("name", "address", "fingerprint")
        widths = [max(map(len, column)) for column in zip(heading, *(cells for _, *cells in shown), strict=True)]
        lines = [attrs.evolve(self._row(Phrase.HEADING, heading, widths, 0.0), name="")]
        for row, name, address, key in shown:
            last = self.lines(Phrase.ROW_CHANGED, key=key)[0].text if row.key_changed else key
            phrase = Phrase.ONLINE_ROW if row.online else Phrase.AWAY_ROW
            line = self._row(phrase, (name, address, last), widths, row.since)
            lines.append(attrs.evolve(line, style=Style.WARNING) if row.key_changed else line)
        return tuple(lines)

    def _row(self, phrase: Phrase, cells: tuple[str, str, str], widths: list[int], since: float) -> Line:
        name, address, key = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        (line,) = self.lines(phrase, name=name, text=address, key=key, at=since)
        return attrs.evolve(line, text=line.text.rstrip())

    def _blocking(
        self, result: results.PersonBlocked | results.PersonUnblocked | results.BlockedList
    ) -> tuple[Line, ...]:
        match result:
            case results.PersonBlocked(name, key):
                return self.lines(Phrase.BLOCKED, name=name, key=key)
            case results.PersonUnblocked(name):
                return self.lines(Phrase.UNBLOCKED, name=name)
            case results.BlockedList(people):
                rows = (self.lines(Phrase.BLOCKED_ROW, text=", ".join(one.names), key=one.key) for one in people)
                return tuple(chain.from_iterable(rows)) or self.lines(Phrase.NOBODY_BLOCKED)

    def _history(self, entries: Iterable[events.HistoryEntry]) -> tuple[Line, ...]:
        lines: list[Line] = []
        for one in entries:
            phrase = _ENTRIES[one.sent][one.group + bool(one.room)]
            lines += self.lines(phrase, name=one.peer, room=one.room, text=one.text, at=one.at)
        return tuple(lines) or self.lines(Phrase.NOTHING_FOUND)

    def _failed(self, failed: results.CommandFailed) -> tuple[Line, ...]:
        match failed:
            case results.CommandFailed(errors.TooFast(seconds=seconds), to=str(to)) if to:
                return self.lines(Phrase.MESSAGE_TOO_FAST, text=to, count=seconds)
            case results.CommandFailed(errors.KeyChanged(name=name) as error, command, ""):
                *warning, _ = self._error(error)
                return (*warning, *self.lines(Phrase.NOT_DONE_UNTRUSTED, name=name, key=command))
        return self._error(failed.error)

    def _error(self, error: errors.ChatError) -> tuple[Line, ...]:
        match error:
            case errors.InvalidText(size=None):
                return self.lines(Phrase.NOT_UNICODE)
            case errors.InvalidText(size=0):
                return self.lines(Phrase.NOTHING)
            case errors.InvalidText(size=int(size)):
                return self.lines(Phrase.TOO_LONG, count=size)
            case errors.KeyChanged(name=name, pinned=pinned, offered=offered):
                warning = self.lines(Phrase.KEY_CHANGED, name=name, pinned=pinned, key=offered)
                return warning + self.lines(Phrase.NOT_SENT, name=name)
            case errors.NotAMember(room=room) if fold(room) == EVERYONE_NAME:
                return self.lines(Phrase.EVERYONE_STAYS, room=EVERYONE_NAME)
            case errors.TooFast(seconds=seconds):
                return self.lines(Phrase.TOO_FAST, count=seconds)
            case commands.UnknownCommand(word=word, similar=(_, *_) as similar):
                return self.lines(Phrase.SIMILAR_COMMAND, text=escape(word), key=" or ".join(similar))
            case commands.UnknownCommand(word=word):
                return self.lines(Phrase.UNKNOWN_COMMAND, text=escape(word))
            case unfinished.NotDone(to=str(to)) if to:
                return self.lines(Phrase.NEVER_SENT, text=to)
            case unfinished.NotDone(first_word=word):
                return self.lines(Phrase.NOT_DONE, text=escape(word))
            case refusals.WhichGroup(groups=groups, instead=instead):
                return self.lines(Phrase.WHICH_GROUP, text=", ".join(map(escape, groups)), key=instead)
            case refusals.InNoGroup(instead=instead):
                return self.lines(Phrase.IN_NO_ROOM if instead else Phrase.NONE_TO_LEAVE, key=instead)
            case commands.WrongUsage(usage=usage):
                return self.lines(Phrase.WRONG_USAGE, text=usage)
        if phrase := _ERRORS.get(type(error)):
            name, room, pinned, offered = (getattr(error, field, "") for field in ("name", "room", "pinned", "offered"))
            return self.lines(phrase, name=name, room=room, pinned=pinned, key=offered)
        text = str(error)
        return self.lines(Phrase.OTHER_ERROR, text=escape(text[:1].upper() + text[1:]))


def _room_row(room: RoomInfo, current: str) -> tuple[Phrase, str]:
    joined = Phrase.CURRENT_ROOM_ROW if room.name == current else Phrase.JOINED_ROOM_ROW
    return joined if room.joined else Phrase.ROOM_ROW, f"{room.name} (private)" if room.private else room.name


def _fill(style: Style, template: str, text: str, fields: dict[str, str]) -> Iterator[Line]:
    """The lines of a template. A line end in the text begins a new line below the beginning of the text."""
    # Without this indent, a line of the text could look like somebody else's message.
    before, has_name, _ = template.partition("{name}")
    name, name_at = (fields["name"].rstrip(), len(before.format_map(fields))) if has_name else ("", 0)
    before, has_text, after = template.partition("{text}")
    before = before.format_map(fields)
    pieces = _text_lines(text) if has_text else [""]
    pieces[-1] += after.format_map(fields)
    yield Line(before + pieces[0], style, name, name_at)
    for piece in pieces[1:]:
        yield Line(" " * len(before) + piece, style)


def _text_lines(text: str) -> list[str]:
    *lines, last = (escape(line.expandtabs(TAB)) for line in LINE_END.split(text, MAX_TEXT_LINES - 1))
    # A line end at the very end adds no line.
    return [*lines, last] if last or not lines else lines


def _ringing(lines: tuple[Line, ...], mention: str = "") -> tuple[Line, ...]:
    # One message rings once; the mention may be in any of its lines.
    return tuple(attrs.evolve(line, mention=mention, rings=number == 0) for number, line in enumerate(lines))
