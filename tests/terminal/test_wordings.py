"""Every line, word by word, in both wordings; and what becomes of control characters."""

import time
import unicodedata
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat import (
    AddressError,
    Banned,
    Blocked,
    Delivery,
    Fallback,
    ForgedReceipt,
    ForgedReceiptReceived,
    GroupMessageReceived,
    GroupMessagesMissed,
    HistoryEntry,
    IdentityError,
    InRoomAlready,
    InvalidName,
    InvalidRecipient,
    InvalidText,
    KeyChanged,
    KeyNotRemembered,
    KeyWarning,
    Kicked,
    LastOwner,
    LetterReceived,
    LetterUnreadable,
    ListTooLong,
    MailboxFull,
    MemberJoined,
    MemberLeft,
    MembersNotTrusted,
    MessageNotDelivered,
    MessageNotOpened,
    MessageReceived,
    NameDeleted,
    NameTaken,
    NoHistory,
    NoMoreRooms,
    NoSuchRoom,
    NotAMember,
    NotAnOwner,
    NotInRoom,
    NotOpened,
    NotRegistered,
    ReceiptReceived,
    RemovedFromRoom,
    RemovedYourself,
    RoomExists,
    RoomFull,
    RoomInfo,
    RoomIsOpen,
    RoomIsPrivate,
    RoomMembersChanged,
    RoomNotTrusted,
    SecondTextReceived,
    ServerBack,
    ServerKeyChanged,
    ServerNotResponding,
    ServerSilent,
    ServerTooNew,
    ServerTooOld,
    SignedInElsewhere,
    SignedOff,
    TableChanged,
    TheyAreInTooManyRooms,
    TooFast,
    TooManyOwners,
    TooManyPeople,
    TooManyRooms,
    UnknownRecipient,
    WrongReceipt,
    WrongReceiptReceived,
)
from trio_chat.client.events import MessageState, OutgoingChanged
from trio_chat.presence.messages import FriendChanged
from trio_chat.terminal.commands import UnknownCommand, WrongUsage
from trio_chat.terminal.phrases import Phrase, Wording
from trio_chat.terminal.refusals import AlreadyRegistered, InNoGroup, OnlyYourself
from trio_chat.terminal.results import (
    BlockedList,
    CameBack,
    CommandList,
    Failed,
    HistoryList,
    KeyTrusted,
    MemberInvited,
    MemberRemoved,
    MembersList,
    MessageCancelled,
    MessageSent,
    OutboxList,
    OwnerAdded,
    OwnersList,
    PersonBlocked,
    PersonUnblocked,
    PostAccepted,
    ProgramInterrupted,
    RegistrationSent,
    RoomCreated,
    RoomJoined,
    RoomLeft,
    RoomsList,
    SentByServer,
    SignedOn,
    TableList,
    TableRow,
    WaitingMessage,
    WentOffline,
)
from trio_chat.terminal.unfinished import NotDone
from trio_chat.terminal.wordings import MAX_TEXT_LINES, Phrasebook, escape

GROUP = Phrasebook()
CHANNEL = Phrasebook(Wording.CHANNEL)

AT = 1648153596.7672942  # 20:26:36 UTC, 05:26:36 in Tokyo
SERVER_SILENT = "[Server not responding since 05:26:36, trying again.]"

BIDI = {*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}

HOW = [*product((False, True), repeat=2)]

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.fixture(autouse=True)
def tokyo(monkeypatch):
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


SAME = object()


def texts(lines):
    return [line.text for line in lines]


OLD, NEW = "aaaa-bbbb-cccc-dddd", "2222-3333-4444-5555"

KEY_CHANGED = [
    "[WARNING: the key of y has changed!]",
    f"[It was {OLD}, now it is {NEW}.]",
    "[Someone may be posing as y. Ask y outside this chat; if the new key is right, type: trust y]",
]
SERVER_KEY_CHANGED = [
    "[WARNING: the key of the server has changed!]",
    f"[It was {OLD}, now it is {NEW}.]",
    f"[Someone may be posing as the server. If you know that the new key is right, start with --server-key {NEW}]",
    "[Exiting]",
]
SERVER_TOO_OLD = [
    "[The server is older than this program, and they cannot talk.]",
    "[Ask its operator to upgrade the server.]",
    "[Exiting]",
]
SERVER_TOO_NEW = [
    "[This program is older than the server, and they cannot talk.]",
    "[Upgrade this program, and start it again.]",
    "[Exiting]",
]
NOT_OPENED = ["[Message received by y, who could not open it.]"]
LETTER_NOT_OPENED = ["[Offline Message sent at 05:26:36 could not be opened by y.]"]
NOT_DELIVERED = [
    "[Offline Message sent at 05:26:36 was not delivered:"
    " y was away too long, or the name was deleted or has a new owner.]"
]
UNREADABLE = ["[A message that claims to be from y could not be opened or verified.]"]
MISSED = ["[3 group messages were not kept: there were too many.]"]
INVALID = "[Not a name: b@d. A name has 1 to 32 letters A-Z, digits, _ . - and begins with a letter or digit.]"
BANNED = "[You are banned from this server. Ask its operator. When the ban is lifted, type reg.]"
NAME_DELETED = "[The operator has freed your name. Type reg to come back.]"
NOT_SENT = "[Message not sent to y. After trust y, send it again.]"
NOT_INVITED = "[Not done: invite. After trust y, type it again.]"
MESSAGE_TOO_FAST = "[Too fast: your message to y was not sent. Try again in 30 s.]"
EVERYONE_ONLY = (RoomInfo("everyone", None, True),)
ROOMS = ["[Available group chats:]"]
MEMBERS = ["(ox) [Members in the group ox:]", "(ox) x", "(ox) y"]
IN_OX = {"room": "ox", "name": "y"}
ADDED_YOU = "(ox) [y has added you to this group. Type join_group ox to write to it.]"
CHANGES_MISSING = "(ox) [Some changes of who is in the group are missing. Type list_members ox.]"
UNKNOWN_OWNER = (
    "(ox) [When you were removed, y did not own this group. If you do not expect that, ask its owners, or type"
    " leave_group ox.]"
)
ADDED_AGAIN = [ADDED_YOU, "(ox) [y has added x.]", UNKNOWN_OWNER]
LEFT_PRIVATE = "(ox) [y has left. The program of an owner gives the group a new key: now, or when one is online.]"
ROOM_NOT_TRUSTED = (
    "[WARNING: the server shows a change of the private group ox that none of its owners has signed, or an old one."
    " It does not count.]"
)
NOT_ADDED = (
    "[WARNING: the server says that you were added to a private group, but not by somebody whose key you know, or you"
    " cannot be in one more of this name. It does not count.]"
)
LAST_OWNER = (
    "[You are the only owner of group ox. Type owners NAME to make somebody else one first, or type leave_group ox"
    " --anyway]"
)
GONE_MEMBER = "(ox) y (has left, says the server; the group has no new key yet)"
LEFT_FOR_ELK = ["[Leave group chat ox]", "[The current group is elk now.]"]
CREATED_PRIVATE = ["[Group ox created by Server.]", "[It is private. Type invite NAME to add somebody.]"]
NO_OWNERS = "(ox) [Nobody owns the group any more: nobody can be added.]"
OWNERS = ["(ox) [Owners of the group ox:]", "(ox) x", "(ox) y"]
JOINED_OX = [ADDED_YOU, "(ox) [y has added x, y.]"]
ALL_CHANGES = [
    "(ox) [y has added v.]",
    "(ox) [y has given the group a new key. Not in it any more: w, u.]",
    "(ox) [y has made v an owner.]",
    CHANGES_MISSING,
]
MEMBERS_NOT_TRUSTED = (
    "[The server does not show who is in the private group ox. Ask one of its owners, or the operator.]"
)
ROOM_IS_PRIVATE = "[Group ox is private, and you are not in it. Ask one of its owners to type invite with your name.]"
FORGED = ["[WARNING: the server showed a forged receipt of y.]"]
SECOND_TEXT = ["[WARNING: y sent two texts as one. Only the first is shown.]"]
WRONG_RECEIPT = ["[WARNING: y signed a receipt for another text than you sent.]"]


@pytest.mark.parametrize(
    ("phrase", "facts", "group", "channel"),
    [
        (Phrase.REGISTERED, {}, ["[Welcome, You are registered.]"], []),
        (Phrase.TABLE_CHANGED, {}, [], ["[Client Table Updated]"]),
        (
            Phrase.RECEIVED,
            {"name": "y"},
            ["[Message received by y.]"],
            ["[Message has been received by y.]"],
        ),
        (Phrase.MESSAGE, {"name": "x", "text": "hi"}, ["x: hi"], ["x : hi"]),
        (Phrase.NO_ACK, {"name": "y"}, ["[No ACK from y, message sent to server.]"], SAME),
        (Phrase.KNOWN_AWAY, {"name": "y"}, [], ["[No ACK from y, message sent to server.]"]),
        (
            Phrase.SAVED,
            {"at": AT},
            ["[Offline Message sent at 05:26:36 received by the server and saved.]"],
            ["[Messages received by the server and saved.]"],
        ),
        (
            Phrase.SAVED_FOR,
            {"name": "y", "at": AT},
            ["[Offline Message to y sent at 05:26:36 received by the server and saved.]"],
            ["[Message to y received by the server and saved.]"],
        ),
        (Phrase.RELAYED, {"name": "y"}, ["[Message relayed to y by the server.]"], SAME),
        (Phrase.RECEIPT, {"name": "y", "at": AT}, ["[Offline Message sent at 05:26:36 received by y.]"], []),
        (Phrase.POSTED, {}, ["[Group Message received by Server.]"], ["[Message received by the server.]"]),
        (Phrase.GROUP_MESSAGE, {"name": "x", "text": "hi"}, ["Group Chat x: hi"], ["Channel_Message x : hi"]),
        (Phrase.DEREGISTERED, {}, ["[You are Offline. Bye.]"], ["[You are now offline. Bye.]"]),
        (Phrase.CREATED, {"room": "lunch"}, ["[Group lunch created by Server.]"], SAME),
        (
            Phrase.CREATED_PRIVATE,
            {"room": "ox"},
            ["[Group ox created by Server.]", "[It is private. Type invite NAME to add somebody.]"],
            SAME,
        ),
        (Phrase.INVITED, IN_OX, ["(ox) [y is in the group now.]"], SAME),
        (Phrase.REMOVED, IN_OX, ["(ox) [y is not in the group any more.]"], SAME),
        (Phrase.OWNER_ADDED, IN_OX, ["(ox) [y owns the group now, too.]"], SAME),
        (Phrase.OWNERS, {"room": "ox"}, ["(ox) [Owners of the group ox:]"], SAME),
        (Phrase.NO_OWNERS, {"room": "ox"}, [NO_OWNERS], SAME),
        (Phrase.ADDED_YOU, IN_OX, [ADDED_YOU], SAME),
        (Phrase.ADDED, IN_OX | {"text": "v, w"}, ["(ox) [y has added v, w.]"], SAME),
        (Phrase.GONE, IN_OX | {"text": "v, w"}, ["(ox) [Not in the group any more: v, w.]"], SAME),
        (
            Phrase.GONE_BY,
            IN_OX | {"text": "v, w"},
            ["(ox) [y has given the group a new key. Not in it any more: v, w.]"],
            SAME,
        ),
        (Phrase.NEW_OWNERS, IN_OX | {"text": "v"}, ["(ox) [y has made v an owner.]"], SAME),
        (Phrase.NEW_OWNER_YOU, IN_OX, ["(ox) [y has made you an owner.]"], SAME),
        (Phrase.CHANGES_MISSING, {"room": "ox"}, [CHANGES_MISSING], SAME),
        (Phrase.UNKNOWN_OWNER, IN_OX, [UNKNOWN_OWNER], SAME),
        (Phrase.REMOVED_YOU, IN_OX, ["(ox) [y has removed you.]"], SAME),
        (Phrase.LEFT_PRIVATE, IN_OX, [LEFT_PRIVATE], SAME),
        (Phrase.ROOM_NOT_TRUSTED, {"room": "ox"}, [ROOM_NOT_TRUSTED], SAME),
        (Phrase.NOT_ADDED, {}, [NOT_ADDED], SAME),
        (Phrase.MEMBERS_NOT_TRUSTED, {"room": "ox"}, [MEMBERS_NOT_TRUSTED], SAME),
        (Phrase.ROOM_IS_PRIVATE, {"room": "ox"}, [ROOM_IS_PRIVATE], SAME),
        (Phrase.ROOM_IS_OPEN, {"room": "ox"}, ["[Group ox is not private: others type join_group ox]"], SAME),
        (Phrase.NOT_AN_OWNER, {"room": "ox"}, ["[You do not own group ox. Type owners to see who does.]"], SAME),
        (Phrase.NOT_IN_ROOM, IN_OX, ["[y is not in group ox.]"], SAME),
        (Phrase.REMOVED_YOURSELF, {"room": "ox"}, ["[You cannot remove yourself. Type leave_group ox]"], SAME),
        (Phrase.LAST_OWNER, {"room": "ox"}, [LAST_OWNER], SAME),
        (Phrase.THEY_ARE_IN_TOO_MANY, {"name": "y"}, ["[y is in too many groups: ask them to leave one.]"], SAME),
        (Phrase.ENTERED, {"room": "lunch"}, ["[Entered group lunch successfully]"], SAME),
        (Phrase.LEFT, {"room": "lunch"}, ["[Leave group chat lunch]"], SAME),
        (Phrase.CURRENT_NOW, {"room": "lunch"}, ["[The current group is lunch now.]"], SAME),
        (Phrase.ROOM_POSTED, {"room": "lunch"}, ["(lunch) [Message received by Server.]"], SAME),
        (
            Phrase.ROOM_MESSAGE,
            {"room": "lunch", "name": "x", "text": "hi"},
            ["(lunch) Group_Message x: hi"],
            ["(lunch) Channel_Message x : hi"],
        ),
        (
            Phrase.ROOM_LETTER,
            {"room": "lunch", "name": "x", "text": "hi", "at": AT},
            ["(lunch) Group_Message x: 05:26:36 hi"],
            ["(lunch) (1648153596.767) Channel_Message x : hi"],
        ),
        (
            Phrase.ROOM_MISSED,
            {"room": "lunch", "count": 7},
            ["(lunch) [7 group messages were not kept: there were too many.]"],
            SAME,
        ),
        (Phrase.ROOMS, {}, ["[Available group chats:]"], SAME),
        (Phrase.ROOM_ROW, {"room": "lunch"}, ["lunch"], SAME),
        (Phrase.JOINED_ROOM_ROW, {"room": "lunch"}, ["lunch (you are in it)"], SAME),
        (Phrase.CURRENT_ROOM_ROW, {"room": "lunch"}, ["lunch (current)"], SAME),
        (Phrase.MEMBERS, {"room": "lunch"}, ["(lunch) [Members in the group lunch:]"], SAME),
        (Phrase.MEMBER_ROW, {"room": "lunch", "name": "x"}, ["(lunch) x"], SAME),
        (Phrase.GONE_MEMBER_ROW, IN_OX, [GONE_MEMBER], SAME),
        (Phrase.ROOM_EXISTS, {"room": "lunch"}, ["[Group lunch already exists.]"], SAME),
        (Phrase.NO_SUCH_ROOM, {"room": "lunch"}, ["[Group lunch does not exist]"], SAME),
        (Phrase.NOT_A_MEMBER, {"room": "lunch"}, ["[You are not in group lunch. Type join_group lunch]"], SAME),
        (
            Phrase.EVERYONE_STAYS,
            {"room": "everyone"},
            ["[Everybody is in group everyone: nobody can leave it.]"],
            SAME,
        ),
        (
            Phrase.ROOM_FULL,
            {"room": "lunch"},
            ["[Group lunch is full: try again later, or create another one.]"],
            SAME,
        ),
        (Phrase.TOO_MANY_ROOMS, {}, ["[You are in too many groups: leave one of them first.]"], SAME),
        (
            Phrase.NO_MORE_ROOMS,
            {},
            ["[The server takes no more groups from you: join one, or try again later.]"],
            SAME,
        ),
        (
            Phrase.WHICH_GROUP,
            {"text": "a, b", "key": "join_group NAME first"},
            ["[Which group? You are in a, b. Type join_group NAME first.]"],
            SAME,
        ),
        (
            Phrase.GROUPS_UNKNOWN,
            {},
            [
                "[Your message to your group was not sent: the server is not responding, and it is not known which"
                " group that is. Type send #NAME TEXT.]"
            ],
            SAME,
        ),
        (Phrase.IN_NO_ROOM, {"key": "join_group NAME"}, ["[You are in no group. Type join_group NAME.]"], SAME),
        (Phrase.NONE_TO_LEAVE, {}, ["[You are in no group.]"], SAME),
        (Phrase.REG_SENT, {}, ["[RegSent]"], []),
        (Phrase.LETTERS, {}, ["[You have offline messages:]"], ["[You have message]"]),
        (
            Phrase.LETTER,
            {"name": "x", "text": "hi", "at": AT},
            ["x: 05:26:36 hi"],
            ["(1648153596.767) x : hi"],
        ),
        (
            Phrase.GROUP_LETTER,
            {"name": "x", "text": "hi", "at": AT},
            ["Group Chat x: 05:26:36 hi"],
            ["(1648153596.767) Channel_Message x : hi"],
        ),
        (Phrase.HAS_LETTERS, {"count": 2}, [], []),
        (Phrase.NO_LETTERS, {}, ["[You have no offline messages.]"], []),
        (Phrase.MISSED, {"count": 7}, ["[7 group messages were not kept: there were too many.]"], SAME),
        (
            Phrase.NO_SERVER,
            {},
            ["[Server not responding]", "[Exiting]"],
            ["[Message sent failed]", "[Server is shut down]", "[Exiting]"],
        ),
        (Phrase.UNSENT, {"text": "y"}, ["[Your message to y was probably not sent.]"], SAME),
        (
            Phrase.MESSAGE_WAITS,
            {"text": "y", "key": "why", "count": 3},
            ["[Your message to y waits: why; cancel 3 withdraws it.]"],
            SAME,
        ),
        (
            Phrase.MESSAGE_QUEUED,
            {"text": "y", "key": "why"},
            ["[Your message to y waits: why. The next send --queue or client --reconnect sends it.]"],
            SAME,
        ),
        (
            Phrase.WAITED,
            {"text": "y", "key": "sung", "at": AT},
            ["[Your message to y of 05:26:36 was sung.]"],
            SAME,
        ),
        (Phrase.FAILED, {"text": "y", "at": AT}, ["[Your message to y of 05:26:36 was not sent:]"], SAME),
        (Phrase.UNCERTAIN, {"text": "y", "at": AT}, ["[Your message to y of 05:26:36 has failed:]"], SAME),
        (
            Phrase.ALL_WAITING,
            {"count": 2},
            ["[Messages that wait to be sent: 2. The next start with --reconnect sends them.]"],
            SAME,
        ),
        (Phrase.OTHERS_WAIT, {"count": 2}, ["[Other messages wait, too: 2.]"], SAME),
        (Phrase.ALL_SILENT, {"count": 2}, ["[Messages that wait to be sent: 2.]"], SAME),
        (
            Phrase.OUTBOX_ROW,
            {"count": 3, "at": AT, "key": "y", "text": "hi"},
            ["3  2022-03-25 05:26:36  to y: hi"],
            SAME,
        ),
        (
            Phrase.OUTBOX_TRIED_ROW,
            {"count": 3, "at": AT, "key": "y", "text": "hi"},
            ["3  2022-03-25 05:26:36  to y (tried): hi"],
            SAME,
        ),
        (Phrase.OUTBOX_EMPTY, {}, ["[No message waits to be sent.]"], SAME),
        (Phrase.CANCELLED, {"text": "y", "at": AT}, ["[Your message to y of 05:26:36 is withdrawn.]"], SAME),
        (
            Phrase.CANCELLED_TRIED,
            {"text": "y", "at": AT},
            ["[Your message to y of 05:26:36 is withdrawn. It was tried before, and may have arrived.]"],
            SAME,
        ),
        (Phrase.NOT_DONE, {"text": "who"}, ["[Not done: who]"], SAME),
        (Phrase.NEVER_SENT, {"text": "y"}, ["[Your message to y was not sent.]"], SAME),
        (Phrase.NO_ANSWER, {"text": "who"}, ["[Server not responding: no answer to who. Try again later.]"], SAME),
        (Phrase.SERVER_SILENT, {"at": AT}, [SERVER_SILENT], SAME),
        (Phrase.SERVER_BACK, {}, ["[Server is back.]"], SAME),
        (Phrase.INTERRUPTED, {}, [], ["Caught keyboard interrupt. Exiting"]),
        (Phrase.UNKNOWN_NAME, {"name": "y"}, ["[No such user: y]"], SAME),
        (Phrase.INVALID_NAME, {"name": "b@d"}, [INVALID], SAME),
        (Phrase.OFFLINE, {}, ["[You are offline. Type reg to come back.]"], SAME),
        (Phrase.ALREADY_REGISTERED, {}, ["[You are already registered.]"], SAME),
        (Phrase.ONLY_YOURSELF, {}, ["[You can only do that for yourself.]"], SAME),
        (Phrase.TO_ONESELF, {}, ["[You cannot send to yourself.]"], SAME),
        (Phrase.NOTHING, {}, ["[Nothing to send.]"], SAME),
        (Phrase.TOO_LONG, {"count": 20000}, ["[Too long: 20000 bytes, at most 16384.]"], SAME),
        (Phrase.NOT_UNICODE, {}, ["[Not valid Unicode, message not sent.]"], SAME),
        (Phrase.MAILBOX_FULL, {"name": "y"}, ["[The mailbox of y is full, message not sent.]"], SAME),
        (Phrase.TOO_FAST, {"count": 30}, ["[Too fast: try again in 30 s.]"], SAME),
        (Phrase.MESSAGE_TOO_FAST, {"count": 30, "text": "y"}, [MESSAGE_TOO_FAST], SAME),
        (
            Phrase.UNKNOWN_COMMAND,
            {"text": "X"},
            ["[Unknown command: X. Type help, or send_all TEXT to write to all.]"],
            SAME,
        ),
        (
            Phrase.SIMILAR_COMMAND,
            {"text": "X", "key": "who"},
            ["[Unknown command: X. Did you mean who? Type help.]"],
            SAME,
        ),
        (Phrase.WRONG_USAGE, {"text": "send NAME TEXT"}, ["[Usage: send NAME TEXT]"], SAME),
        (Phrase.NAME_TAKEN, {"name": "x"}, ["[Name x is taken.]"], SAME),
        (
            Phrase.SIGNED_IN_ELSEWHERE,
            {},
            ["[Signed in from another place: go on there, or start again here.]", "[Exiting]"],
            SAME,
        ),
        (Phrase.KICKED, {}, ["[The operator has signed you off. Type reg to come back.]"], SAME),
        (Phrase.BANNED, {}, [BANNED], SAME),
        (Phrase.NAME_DELETED, {}, [NAME_DELETED], SAME),
        (Phrase.KEY_CHANGED, {"name": "y", "pinned": OLD, "key": NEW}, KEY_CHANGED, SAME),
        (Phrase.NOT_SENT, {"name": "y"}, [NOT_SENT], SAME),
        (Phrase.NOT_DONE_UNTRUSTED, {"name": "y", "key": "invite"}, [NOT_INVITED], SAME),
        (Phrase.SERVER_KEY_CHANGED, {"pinned": OLD, "key": NEW}, SERVER_KEY_CHANGED, SAME),
        (Phrase.SERVER_TOO_OLD, {}, SERVER_TOO_OLD, SAME),
        (Phrase.SERVER_TOO_NEW, {}, SERVER_TOO_NEW, SAME),
        (Phrase.TRUSTED, {"name": "y", "key": NEW}, [f"[The key of y is trusted now: {NEW}]"], SAME),
        (
            Phrase.BLOCKED,
            {"name": "y", "key": NEW},
            [f"[y is blocked now, and is not told: {NEW}]"],
            SAME,
        ),
        (Phrase.UNBLOCKED, {"name": "y"}, ["[y is not blocked any more.]"], SAME),
        (Phrase.BLOCKED_ROW, {"key": NEW, "text": "x, y"}, [f"{NEW}  x, y"], SAME),
        (Phrase.NOBODY_BLOCKED, {}, ["[Nobody is blocked.]"], SAME),
        (Phrase.NOT_OPENED, {"name": "y"}, NOT_OPENED, SAME),
        (Phrase.SAVED_NOT_OPENED, {"name": "y", "at": AT}, LETTER_NOT_OPENED, SAME),
        (Phrase.NOT_DELIVERED, {"name": "y", "at": AT}, NOT_DELIVERED, SAME),
        (Phrase.UNREADABLE, {"name": "y"}, UNREADABLE, SAME),
        (Phrase.FORGED_RECEIPT, {"name": "y"}, FORGED, SAME),
        (Phrase.WRONG_RECEIPT, {"name": "y"}, WRONG_RECEIPT, SAME),
        (Phrase.TWO_TEXTS, {"name": "y"}, SECOND_TEXT, SAME),
        (
            Phrase.HEADING,
            {"name": "name", "text": "address", "key": "fingerprint"},
            ["name  status    since     address  fingerprint"],
            SAME,
        ),
        (
            Phrase.ONLINE_ROW,
            {"name": "x", "text": "[::1]:9", "key": OLD, "at": AT},
            [f"x  on line   05:26:36  [::1]:9  {OLD}"],
            SAME,
        ),
        (
            Phrase.AWAY_ROW,
            {"name": "x", "text": "[::1]:9", "key": OLD, "at": AT},
            [f"x  off line  05:26:36  [::1]:9  {OLD}"],
            SAME,
        ),
        (
            Phrase.TABLE_OLD,
            {"at": AT},
            ["[The server is not responding since 05:26:36: this may not be so any more.]"],
            SAME,
        ),
        (Phrase.TABLE_OFFLINE, {}, ["[You are offline: this may not be so any more.]"], SAME),
        (Phrase.ROW_CHANGED, {"key": OLD}, [f"{OLD}  KEY CHANGED"], SAME),
        (Phrase.PASTE, {"count": 3}, ["[Paste of 3 lines: run them as commands? y, or any other key for no]"], SAME),
        (
            Phrase.PASTE_SENDS,
            {"count": 3, "text": "send bob"},
            ["[Paste of 3 lines: send each one with send bob? y, or any other key for no]"],
            SAME,
        ),
        (Phrase.PASTE_DROPPED, {"count": 3}, ["[The 3 pasted lines are dropped.]"], SAME),
        (
            Phrase.ENTRY,
            {"name": "x", "text": "hi", "at": AT},
            ["[2022-03-25 05:26:36 x: hi]"],
            ["[2022-03-25 05:26:36 x : hi]"],
        ),
        (
            Phrase.POST,
            {"name": "x", "text": "hi", "at": AT},
            ["[2022-03-25 05:26:36 Group Chat x: hi]"],
            ["[2022-03-25 05:26:36 Channel_Message x : hi]"],
        ),
        (
            Phrase.OWN_ENTRY,
            {"name": "y", "text": "hi", "at": AT},
            ["[2022-03-25 05:26:36 to y: hi]"],
            ["[2022-03-25 05:26:36 to y : hi]"],
        ),
        (
            Phrase.ROOM_POST,
            {"room": "lunch", "name": "x", "text": "hi", "at": AT},
            ["[2022-03-25 05:26:36 (lunch) Group_Message x: hi]"],
            ["[2022-03-25 05:26:36 (lunch) Channel_Message x : hi]"],
        ),
        (
            Phrase.OWN_ROOM_POST,
            {"room": "lunch", "text": "hi", "at": AT},
            ["[2022-03-25 05:26:36 to group lunch: hi]"],
            ["[2022-03-25 05:26:36 to group lunch : hi]"],
        ),
        (
            Phrase.OWN_POST,
            {"text": "hi", "at": AT},
            ["[2022-03-25 05:26:36 Group Chat to all: hi]"],
            ["[2022-03-25 05:26:36 Channel_Message to all : hi]"],
        ),
        (Phrase.NOTHING_FOUND, {}, ["[Nothing found.]"], SAME),
        (Phrase.NO_HISTORY, {}, ["[No history is kept.]"], SAME),
        (Phrase.FRIEND_ONLINE, {"name": "3"}, ["[3 is online]"], SAME),
        (Phrase.FRIEND_AWAY, {"name": "y"}, ["[y is away]"], SAME),
        (Phrase.OTHER_ERROR, {"text": "odd"}, ["[odd.]"], SAME),
    ],
)
def test_every_phrase_in_both_wordings(phrase, facts, group, channel):
    assert texts(GROUP.lines(phrase, **facts)) == group
    assert texts(CHANNEL.lines(phrase, **facts)) == (group if channel is SAME else channel)


def test_that_table_has_every_phrase():
    (cases,) = (mark.args[1] for mark in test_every_phrase_in_both_wordings.pytestmark)
    assert [case[0] for case in cases] == list(Phrase)


@pytest.mark.parametrize(
    ("event", "group", "channel"),
    [
        (MessageReceived("x", "hi"), ["x: hi"], ["x : hi"]),
        (GroupMessageReceived("x", "hi"), ["Group Chat x: hi"], ["Channel_Message x : hi"]),
        (
            LetterReceived("x", "hi", AT, group=False, first=True),
            ["[You have offline messages:]", "x: 05:26:36 hi"],
            ["[You have message]", "(1648153596.767) x : hi"],
        ),
        (
            LetterReceived("x", "hi", AT, group=True, first=False),
            ["Group Chat x: 05:26:36 hi"],
            ["(1648153596.767) Channel_Message x : hi"],
        ),
        (ReceiptReceived("y", AT), ["[Offline Message sent at 05:26:36 received by y.]"], []),
        (MessageNotOpened("y", AT), LETTER_NOT_OPENED, LETTER_NOT_OPENED),
        (MessageNotDelivered("y", AT), NOT_DELIVERED, NOT_DELIVERED),
        (WrongReceiptReceived("y"), WRONG_RECEIPT, WRONG_RECEIPT),
        (ForgedReceiptReceived("y"), FORGED, FORGED),
        (LetterUnreadable("y"), UNREADABLE, UNREADABLE),
        (SecondTextReceived("y"), SECOND_TEXT, SECOND_TEXT),
        (KeyWarning("y", OLD, NEW), KEY_CHANGED, KEY_CHANGED),
        (GroupMessagesMissed(3), MISSED, MISSED),
        (GroupMessageReceived("x", "hi", room="ox"), ["(ox) Group_Message x: hi"], ["(ox) Channel_Message x : hi"]),
        (
            LetterReceived("x", "hi", AT, group=True, first=True, room="ox"),
            ["[You have offline messages:]", "(ox) Group_Message x: 05:26:36 hi"],
            ["[You have message]", "(ox) (1648153596.767) Channel_Message x : hi"],
        ),
        (GroupMessagesMissed(3, "ox"), [f"(ox) {MISSED[0]}"], [f"(ox) {MISSED[0]}"]),
        (MemberJoined("ox", "x"), [], []),
        (MemberLeft("ox", "x"), [], []),
        (MemberLeft("ox", "y", private=True), [LEFT_PRIVATE], [LEFT_PRIVATE]),
        (RoomMembersChanged("ox", "y", ("x", "y"), joined=True), JOINED_OX, JOINED_OX),
        (RoomMembersChanged("ox", "y", ("v",), ("w", "u"), ("v",), gap=True), ALL_CHANGES, ALL_CHANGES),
        (RoomMembersChanged("ox", "y", ("x",), joined=True, unknown_owner=True), ADDED_AGAIN, ADDED_AGAIN),
        (RoomMembersChanged("ox", "y"), [], []),
        (RemovedFromRoom("ox", "y"), ["(ox) [y has removed you.]"], ["(ox) [y has removed you.]"]),
        (RoomNotTrusted("ox"), [ROOM_NOT_TRUSTED], [ROOM_NOT_TRUSTED]),
        (RoomNotTrusted(""), [NOT_ADDED], [NOT_ADDED]),
        (TableChanged(), [], ["[Client Table Updated]"]),
        (ServerSilent(AT), [SERVER_SILENT], [SERVER_SILENT]),
        (ServerBack(), ["[Server is back.]"], ["[Server is back.]"]),
        (SignedOff(NameTaken("x")), ["[Name x is taken.]"], ["[Name x is taken.]"]),
    ],
)
def test_events(event, group, channel):
    assert texts(GROUP.render(event)) == group
    assert texts(CHANNEL.render(event)) == channel


@pytest.mark.parametrize(
    ("event", "group", "channel"),
    [
        (
            MessageReceived("x", "hi", 0.0),
            ["x: hi (written 1970-01-01 09:00 by their clock)"],
            ["x : hi (written 1970-01-01 09:00 by their clock)"],
        ),
        (
            MessageReceived("x", "hi\nthere\n", 0.0),
            ["x: hi", "   there (written 1970-01-01 09:00 by their clock)"],
            ["x : hi", "    there (written 1970-01-01 09:00 by their clock)"],
        ),
        (
            GroupMessageReceived("x", "hi", AT),
            ["Group Chat x: hi (written 2022-03-25 05:26 by their clock)"],
            ["Channel_Message x : hi (written 2022-03-25 05:26 by their clock)"],
        ),
        (
            LetterReceived("x", "hi", AT, group=False, first=False, signed_at=AT + 3600),
            ["x: 05:26:36 hi (written 2022-03-25 06:26 by their clock)"],
            ["(1648153596.767) x : hi (written 2022-03-25 06:26 by their clock)"],
        ),
        (
            LetterReceived("x", "hi", AT, group=True, first=False, signed_at=253_402_300_799.0),
            ["Group Chat x: 05:26:36 hi (written 10000-01-01 08:59 by their clock)"],
            ["(1648153596.767) Channel_Message x : hi (written 10000-01-01 08:59 by their clock)"],
        ),
    ],
)
def test_a_message_of_another_day_is_shown_with_the_day_on_which_it_was_written(event, group, channel):
    assert texts(GROUP.render(event)) == group
    assert texts(CHANNEL.render(event)) == channel


@pytest.mark.parametrize(
    ("hours_ago", "written"),
    [(0, "05:26"), (5, "00:26"), (6, "2022-03-24 23:26"), (-18, "23:26"), (24, "2022-03-24 05:26")],
)
def test_a_message_of_today_is_shown_with_the_time_at_which_it_was_written(hours_ago, written):
    book = Phrasebook(now=lambda: AT)
    letter = LetterReceived("x", "hi", AT, group=False, first=False, signed_at=AT - hours_ago * 3600)
    assert texts(book.render(letter)) == [f"x: 05:26:36 hi (written {written} by their clock)"]


@pytest.mark.parametrize(
    ("result", "group", "channel"),
    [
        (SignedOn(2), ["[Welcome, You are registered.]"], []),
        (RegistrationSent(), ["[RegSent]"], []),
        (CameBack(0), ["[You have no offline messages.]"], []),
        (CameBack(2), [], []),
        (WentOffline(), ["[You are Offline. Bye.]"], ["[You are now offline. Bye.]"]),
        (PostAccepted(), ["[Group Message received by Server.]"], ["[Message received by the server.]"]),
        (KeyTrusted("y", NEW), [f"[The key of y is trusted now: {NEW}]"], [f"[The key of y is trusted now: {NEW}]"]),
        (HistoryList(()), ["[Nothing found.]"], ["[Nothing found.]"]),
        (PostAccepted("ox"), ["(ox) [Message received by Server.]"], ["(ox) [Message received by Server.]"]),
        (RoomCreated("ox"), ["[Group ox created by Server.]"], ["[Group ox created by Server.]"]),
        (RoomCreated("ox", private=True), CREATED_PRIVATE, CREATED_PRIVATE),
        (MemberInvited("ox", "y"), ["(ox) [y is in the group now.]"], ["(ox) [y is in the group now.]"]),
        (
            MemberRemoved("ox", "y"),
            ["(ox) [y is not in the group any more.]"],
            ["(ox) [y is not in the group any more.]"],
        ),
        (OwnerAdded("ox", "y"), ["(ox) [y owns the group now, too.]"], ["(ox) [y owns the group now, too.]"]),
        (OwnersList("ox", ("x", "y")), OWNERS, OWNERS),
        (OwnersList("ox", ()), [NO_OWNERS], [NO_OWNERS]),
        (RoomJoined("ox"), ["[Entered group ox successfully]"], ["[Entered group ox successfully]"]),
        (RoomLeft("ox"), ["[Leave group chat ox]"], ["[Leave group chat ox]"]),
        (RoomLeft("ox", "elk"), LEFT_FOR_ELK, LEFT_FOR_ELK),
        (RoomsList(EVERYONE_ONLY), ["[Available group chats:]"], ["[Available group chats:]"]),
        (RoomsList((*EVERYONE_ONLY, RoomInfo("ox", 2, False)), "ox"), [*ROOMS, "ox"], [*ROOMS, "ox"]),
        (RoomsList(EVERYONE_ONLY, "everyone"), [*ROOMS, "everyone (current)"], [*ROOMS, "everyone (current)"]),
        (MembersList("ox", ("x", "y")), MEMBERS, MEMBERS),
        (MembersList("ox", ("x", "y"), ("y",)), [*MEMBERS[:-1], GONE_MEMBER], [*MEMBERS[:-1], GONE_MEMBER]),
        (CommandList(("who  who is there",)), ["who  who is there"], ["who  who is there"]),
        (ProgramInterrupted(), [], ["Caught keyboard interrupt. Exiting"]),
        (FriendChanged(3, online=True), ["[3 is online]"], ["[3 is online]"]),
        (FriendChanged("y", online=False), ["[y is away]"], ["[y is away]"]),
    ],
)
def test_results(result, group, channel):
    assert texts(GROUP.render(result)) == group
    assert texts(CHANNEL.render(result)) == channel


@pytest.mark.parametrize(
    ("delivery", "group", "channel"),
    [
        (Delivery("direct"), "[Message received by y.]", "[Message has been received by y.]"),
        (Delivery("relayed"), "[Message relayed to y by the server.]", "[Message relayed to y by the server.]"),
        (
            Delivery("saved", AT),
            "[Offline Message sent at 05:26:36 received by the server and saved.]",
            "[Messages received by the server and saved.]",
        ),
    ],
)
def test_how_a_message_went(delivery, group, channel):
    sent = MessageSent("y", delivery.how, delivery.sent_at)
    assert texts(GROUP.render(sent)) == [group]
    assert texts(CHANNEL.render(sent)) == [channel]


def test_a_missing_acknowledgement_has_a_line_but_not_a_known_detour():
    no_ack = ["[No ACK from y, message sent to server.]"]
    assert {reason: texts(GROUP.render(SentByServer("y", reason))) for reason in Fallback} == {
        Fallback.NO_ACK: no_ack,
        Fallback.OFFLINE: [],
        Fallback.DETOUR: [],
        Fallback.IN_ORDER: [],
    }
    assert {reason: texts(CHANNEL.render(SentByServer("y", reason))) for reason in Fallback} == {
        Fallback.NO_ACK: no_ack,
        Fallback.OFFLINE: no_ack,
        Fallback.DETOUR: [],
        Fallback.IN_ORDER: [],
    }


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (NotRegistered(), ["[You are offline. Type reg to come back.]"]),
        (InvalidRecipient(), ["[You cannot send to yourself.]"]),
        (InvalidText(0), ["[Nothing to send.]"]),
        (InvalidText(16385), ["[Too long: 16385 bytes, at most 16384.]"]),
        (InvalidText(None), ["[Not valid Unicode, message not sent.]"]),
        (UnknownRecipient("y"), ["[No such user: y]"]),
        (InvalidName("b@d"), [INVALID]),
        (UnknownCommand("a\x1b\nb"), [r"[Unknown command: a\x1b\nb. Type help, or send_all TEXT to write to all.]"]),
        (WrongUsage("trust NAME"), ["[Usage: trust NAME]"]),
        (AlreadyRegistered(), ["[You are already registered.]"]),
        (OnlyYourself(), ["[You can only do that for yourself.]"]),
        (MailboxFull("y"), ["[The mailbox of y is full, message not sent.]"]),
        (NameTaken("x"), ["[Name x is taken.]"]),
        (ServerNotResponding(), ["[Server not responding]", "[Exiting]"]),
        (TooFast(30.0), ["[Too fast: try again in 30 s.]"]),
        (RoomExists("ox"), ["[Group ox already exists.]"]),
        (NoSuchRoom("ox"), ["[Group ox does not exist]"]),
        (NotAMember("ox"), ["[You are not in group ox. Type join_group ox]"]),
        (NotAMember("Everyone"), ["[Everybody is in group everyone: nobody can leave it.]"]),
        (InNoGroup(), ["[You are in no group.]"]),
        (InNoGroup("join_group NAME"), ["[You are in no group. Type join_group NAME.]"]),
        (RoomFull("ox"), ["[Group ox is full: try again later, or create another one.]"]),
        (TooManyRooms(), ["[You are in too many groups: leave one of them first.]"]),
        (NoMoreRooms(), ["[The server takes no more groups from you: join one, or try again later.]"]),
        (RoomIsPrivate("ox"), [ROOM_IS_PRIVATE]),
        (RoomIsOpen("ox"), ["[Group ox is not private: others type join_group ox]"]),
        (NotAnOwner("ox"), ["[You do not own group ox. Type owners to see who does.]"]),
        (NotInRoom("y", "ox"), ["[y is not in group ox.]"]),
        (RemovedYourself("ox"), ["[You cannot remove yourself. Type leave_group ox]"]),
        (LastOwner("ox"), [LAST_OWNER]),
        (InRoomAlready("y", "ox", "why"), ["[The key of y is in the room ox already, as why.]"]),
        (TooManyOwners("ox"), ["[The room ox has 10 owners: remove one of them first.]"]),
        (TheyAreInTooManyRooms("y"), ["[y is in too many groups: ask them to leave one.]"]),
        (MembersNotTrusted("ox"), [MEMBERS_NOT_TRUSTED]),
        (NoHistory(), ["[No history is kept.]"]),
        (NotOpened("y"), NOT_OPENED),
        (WrongReceipt("y"), WRONG_RECEIPT),
        (ForgedReceipt("y"), FORGED),
        (KeyChanged("y", OLD, NEW), [*KEY_CHANGED, NOT_SENT]),
        (
            KeyNotRemembered("y", other=NEW),
            [f"[Not sent: no more keys are remembered; ask y if theirs is {NEW}, then trust it.]"],
        ),
        (ListTooLong(), ["[The list of the server goes on and on: ask its operator.]"]),
        (TooManyPeople(), ["[The server sends more names than 20,000: ask its operator.]"]),
        (ServerKeyChanged(OLD, NEW), SERVER_KEY_CHANGED),
        (ServerTooOld(), SERVER_TOO_OLD),
        (ServerTooNew(), SERVER_TOO_NEW),
        (SignedInElsewhere(), ["[Signed in from another place: go on there, or start again here.]", "[Exiting]"]),
        (Kicked(), ["[The operator has signed you off. Type reg to come back.]"]),
        (Banned(), [BANNED]),
        (NameDeleted(), [NAME_DELETED]),
        (IdentityError("damaged"), ["[Damaged.]"]),
        (AddressError("no such\x07\n place"), [r"[No such\x07\n place.]"]),
    ],
)
def test_errors(error, lines):
    assert texts(GROUP.render(Failed(error))) == lines


def test_the_table_has_columns_as_wide_as_what_is_in_them():
    table = TableList(
        (
            TableRow("alice", "127.0.0.1", 59217, True, AT, OLD, False),
            TableRow("bob-the-builder", "2001:db8::1", 9, False, AT + 1, NEW, True),
            TableRow("x", "10.0.0.1", 9, True, AT, "", False),
            TableRow("y", "10.0.0.1", 9, False, AT, "", True),
        )
    )
    assert texts(GROUP.render(table)) == [
        "name             status    since     address          fingerprint",
        f"alice            on line   05:26:36  127.0.0.1:59217  {OLD}",
        f"bob-the-builder  off line  05:26:37  [2001:db8::1]:9  {NEW}  KEY CHANGED",
        "x                on line   05:26:36  10.0.0.1:9",
        "y                off line  05:26:36  10.0.0.1:9         KEY CHANGED",
    ]
    assert GROUP.render(table) == CHANNEL.render(table)


@pytest.mark.parametrize(
    ("silent_since", "online", "line"),
    [
        (None, False, "[You are offline: this may not be so any more.]"),
        (AT, False, "[The server is not responding since 05:26:36: this may not be so any more.]"),
    ],
)
def test_below_a_table_that_nothing_changes_any_more_is_why(silent_since, online, line):
    assert texts(GROUP.render(TableList((), silent_since, online)))[-1] == line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\r\nb\tc\x00\x0b", r"a\r\nb\tc\x00\x0b"),
        ("\x7f\x85\x9f", r"\x7f\x85\x9f"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\u202ereversed\u2066", r"\u202ereversed\u2066"),
        ("\ud800", r"\ud800"),
        ("plain \\x1b stays", r"plain \x1b stays"),
        ("né 両方 👩\u200d👩\u200d👧 क्\u200cष {name} %s", "né 両方 👩\u200d👩\u200d👧 क्\u200cष {name} %s"),
    ],
)
def test_controls_are_shown_and_nothing_else_is_touched(text, shown):
    assert escape(text) == shown
    if not {*"\r\n\t"} & {*text}:
        assert texts(GROUP.render(MessageReceived("x", text))) == [f"x: {shown}"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one\ntwo", ["x: one", "   two"]),
        ("one\r\ntwo\rthree", ["x: one", "   two", "   three"]),
        ("\ny: not from y", ["x: ", "   y: not from y"]),
        ("a\n\n\x1b[2Jb\n", ["x: a", "   ", r"   \x1b[2Jb"]),
        ("\n", ["x: "]),
        ("a\tb\n\tc", ["x: a   b", "       c"]),
    ],
)
def test_the_lines_of_a_text_stand_below_its_beginning(text, shown):
    assert texts(GROUP.render(MessageReceived("x", text))) == shown


def test_a_text_has_a_limited_number_of_lines_and_loses_nothing():
    lines = texts(GROUP.render(MessageReceived("x", "a\n" * 1000)))
    assert len(lines) == MAX_TEXT_LINES
    assert lines[-2:] == ["   a", "   " + r"a\n" * (1001 - MAX_TEXT_LINES)]


@given(ANY_TEXT)
def test_only_one_line_of_a_message_begins_at_the_left(text):
    first, *others = texts(GROUP.render(MessageReceived("alice", text)))
    assert first.startswith("alice: ")
    assert all(line.startswith("       ") for line in others)


def is_control(character):
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in BIDI


def test_each_control_character_is_escaped_and_no_other():
    plane = [chr(code) for code in range(0x10000)]
    assert [c for c in plane if escape(c) != c] == [c for c in plane if is_control(c)]


@given(ANY_TEXT)
def test_no_control_character_ever_gets_out(text):
    assert not any(map(is_control, escape(text)))
    if not any(map(is_control, text)):
        assert escape(text) == text


@given(name=ANY_TEXT, text=ANY_TEXT, wording=st.sampled_from(Wording))
def test_no_event_and_no_error_gets_a_control_character_out(name, text, wording):
    phrasebook = Phrasebook(wording)
    lines = [
        *phrasebook.render(MessageReceived(name, text)),
        *phrasebook.render(GroupMessageReceived(name, text)),
        *phrasebook.render(LetterReceived(name, text, AT, group=False, first=True)),
        *phrasebook.render(LetterReceived(name, text, AT, group=True, first=False)),
        *phrasebook.render(GroupMessageReceived(name, text, room=name)),
        *phrasebook.render(LetterReceived(name, text, AT, group=True, first=False, room=name)),
        *phrasebook.render(GroupMessagesMissed(3, name)),
        *phrasebook.render(RoomsList((RoomInfo(name, 2, False),))),
        *phrasebook.render(MembersList(name, (name, text))),
        *phrasebook.render(OwnersList(name, (name, text))),
        *phrasebook.render(RoomMembersChanged(name, text, (name,), (text,), (name, text), joined=True, gap=True)),
        *phrasebook.render(RemovedFromRoom(name, text)),
        *phrasebook.render(RoomNotTrusted(name)),
        *phrasebook.render(MemberLeft(name, text, private=True)),
        *phrasebook.render(Failed(NotInRoom(name, text))),
        *phrasebook.render(HistoryList((HistoryEntry(AT, name, text, group=True, room=text),))),
        *phrasebook.render(Failed(NotAMember(text))),
        *phrasebook.render(ReceiptReceived(name, AT)),
        *phrasebook.render(MessageNotOpened(name, AT)),
        *phrasebook.render(MessageNotDelivered(name, AT)),
        *phrasebook.render(WrongReceiptReceived(name)),
        *phrasebook.render(ForgedReceiptReceived(name)),
        *phrasebook.render(LetterUnreadable(name)),
        *phrasebook.render(SecondTextReceived(name)),
        *phrasebook.render(OutgoingChanged(1, b"", name, "", AT, MessageState.WAITING, error=AddressError(text))),
        *phrasebook.render(OutgoingChanged(1, b"", "", name, AT, MessageState.POSTED, waited=True)),
        *phrasebook.render(OutgoingChanged(1, b"", name, "", AT, MessageState.FAILED, error=UnknownRecipient(name))),
        *phrasebook.render(OutboxList((WaitingMessage(1, b"", name, "", AT, text, tried=True),))),
        *phrasebook.render(MessageCancelled(1, b"", name, "", AT, tried=False)),
        *phrasebook.render(Failed(NotDone(f"x{text}", name))),
        *phrasebook.render(Failed(NotDone(f"x{text}"))),
        *phrasebook.render(KeyWarning(name, text, text)),
        *phrasebook.render(TableList((TableRow(name, text, 9, True, AT, text, True),))),
        *phrasebook.render(
            HistoryList(tuple(HistoryEntry(AT, name, text, *how) for how in product((False, True), repeat=2)))
        ),
        *phrasebook.render(MessageSent(name, "direct", None)),
        *phrasebook.render(SentByServer(name, Fallback.NO_ACK)),
        *phrasebook.render(Failed(UnknownRecipient(name))),
        *phrasebook.render(Failed(NotOpened(name))),
        *phrasebook.render(Failed(ServerKeyChanged(text, text))),
        *phrasebook.render(KeyTrusted(name, text)),
        *phrasebook.render(PersonBlocked(name, text)),
        *phrasebook.render(PersonUnblocked(name)),
        *phrasebook.render(BlockedList((Blocked((name, text), text),))),
        *phrasebook.render(Failed(AddressError(text))),
        *phrasebook.render(Failed(UnknownCommand(text))),
    ]
    assert len(lines) >= 20
    assert not any(is_control(character) for line in lines for character in line.text)


def test_a_text_is_not_read_as_a_template():
    assert texts(GROUP.render(MessageReceived("x", "one / two {time}"))) == ["x: one / two {time}"]
