"""Every phrase that people see, in the two wordings of the client.

What fills them in, and when they are shown, is in wordings.py.
"""

import enum

from trio_chat.protocol.records import MAX_TEXT
from trio_chat.terminal.styling import LineStyle as Style


class Wording(enum.StrEnum):
    """Which words are used: those of the ancestor `group` or of the ancestor `channel`."""

    GROUP = "group"
    CHANNEL = "channel"


class Phrase(enum.Enum):
    """The style of a phrase, what happened, and the words of the wordings group and channel (left out: the same).

    ` / ` separates lines; an empty text prints nothing.
    """

    REGISTERED = Style.SYSTEM, "registered", "[Welcome, You are registered.]", ""
    TABLE_CHANGED = Style.SYSTEM, "the table changed", "", "[Client Table Updated]"
    RECEIVED = Style.SYSTEM, "acknowledged", "[Message received by {name}.]", "[Message has been received by {name}.]"
    MESSAGE = Style.DIRECT, "message arrives", "{name}: {text}", "{name} : {text}"
    NO_ACK = Style.SYSTEM, "no acknowledgement", "[No ACK from {name}, message sent to server.]"
    KNOWN_AWAY = Style.SYSTEM, "message to someone offline", "", "[No ACK from {name}, message sent to server.]"
    SAVED = (
        Style.SYSTEM,
        "server stored it",
        "[Offline Message sent at {time} received by the server and saved.]",
        "[Messages received by the server and saved.]",
    )
    # With --reconnect, lines of several messages may come in any order.
    SAVED_FOR = (
        Style.SYSTEM,
        "server stored it, from the outbox",
        "[Offline Message to {name} sent at {time} received by the server and saved.]",
        "[Message to {name} received by the server and saved.]",
    )
    RELAYED = Style.SYSTEM, "server relayed it", "[Message relayed to {name} by the server.]"
    RECEIPT = Style.SYSTEM, "receipt", "[Offline Message sent at {time} received by {name}.]", ""
    POSTED = Style.SYSTEM, "group accepted", "[Group Message received by Server.]", "[Message received by the server.]"
    GROUP_MESSAGE = Style.GROUP, "group message arrives", "Group Chat {name}: {text}", "Channel_Message {name} : {text}"
    DEREGISTERED = Style.SYSTEM, "deregistered", "[You are Offline. Bye.]", "[You are now offline. Bye.]"
    CREATED = Style.SYSTEM, "a group was created", "[Group {room} created by Server.]"
    CREATED_PRIVATE = (
        Style.SYSTEM,
        "a private group was created",
        "[Group {room} created by Server.] / [It is private. Type invite NAME to add somebody.]",
    )
    INVITED = Style.SYSTEM, "invite: somebody is added", "({room}) [{name} is in the group now.]"
    REMOVED = Style.SYSTEM, "remove: somebody is removed", "({room}) [{name} is not in the group any more.]"
    OWNER_ADDED = Style.SYSTEM, "owners NAME: they are one, too", "({room}) [{name} owns the group now, too.]"
    OWNERS = Style.PLAIN, "owners: above the names", "({room}) [Owners of the group {room}:]"
    NO_OWNERS = Style.SYSTEM, "owners: all have left", "({room}) [Nobody owns the group any more: nobody can be added.]"
    ADDED_YOU = (
        Style.SYSTEM,
        "somebody has added you to a private group",
        "({room}) [{name} has added you to this group. Type join_group {room} to write to it.]",
    )
    ADDED = Style.SYSTEM, "somebody has added others", "({room}) [{name} has added {text}.]"
    GONE = (
        Style.SYSTEM,
        "others have left, and your program gives a new key",
        "({room}) [Not in the group any more: {text}.]",
    )
    GONE_BY = (
        Style.SYSTEM,
        "others were removed, or have left",
        "({room}) [{name} has given the group a new key. Not in it any more: {text}.]",
    )
    NEW_OWNERS = Style.SYSTEM, "there are more owners", "({room}) [{name} has made {text} an owner.]"
    NEW_OWNER_YOU = Style.SYSTEM, "you are an owner now", "({room}) [{name} has made you an owner.]"
    CHANGES_MISSING = (
        Style.WARNING,
        "changes of the members of a private group are missing",
        "({room}) [Some changes of who is in the group are missing. Type list_members {room}.]",
    )
    UNKNOWN_OWNER = (
        Style.WARNING,
        "who has added you again did not own the private group",
        "({room}) [When you were removed, {name} did not own this group. If you do not expect that, ask its owners, or"
        " type leave_group {room}.]",
    )
    REMOVED_YOU = Style.SYSTEM, "you were removed from a private group", "({room}) [{name} has removed you.]"
    LEFT_PRIVATE = (
        Style.SYSTEM,
        "somebody has left a private group",
        "({room}) [{name} has left. The program of an owner gives the group a new key: now, or when one is online.]",
    )
    ROOM_NOT_TRUSTED = (
        Style.WARNING,
        "a change of a private group that no owner has signed",
        "[WARNING: the server shows a change of the private group {room} that none of its owners has signed, or an old"
        " one. It does not count.]",
    )
    NOT_ADDED = (
        Style.WARNING,
        "somebody has added you to a private group, and it is not known who",
        "[WARNING: the server says that you were added to a private group, but not by somebody whose key you know, or"
        " you cannot be in one more of this name. It does not count.]",
    )
    MEMBERS_NOT_TRUSTED = (
        Style.ERROR,
        "the server does not show who is in a private group",
        "[The server does not show who is in the private group {room}. Ask one of its owners, or the operator.]",
    )
    ROOM_IS_PRIVATE = (
        Style.ERROR,
        "it is private, and you are not in it, or not any more",
        "[Group {room} is private, and you are not in it. Ask one of its owners to type invite with your name.]",
    )
    ROOM_IS_OPEN = (
        Style.ERROR,
        "invite, remove, owners: it is not private",
        "[Group {room} is not private: others type join_group {room}]",
    )
    NOT_AN_OWNER = Style.ERROR, "you do not own it", "[You do not own group {room}. Type owners to see who does.]"
    NOT_IN_ROOM = Style.ERROR, "somebody is not in the group", "[{name} is not in group {room}.]"
    REMOVED_YOURSELF = Style.ERROR, "remove: yourself", "[You cannot remove yourself. Type leave_group {room}]"
    LAST_OWNER = (
        Style.ERROR,
        "leave_group: you are the only owner",
        "[You are the only owner of group {room}. Type owners NAME to make somebody else one first, or type leave_group"
        " {room} --anyway]",
    )
    THEY_ARE_IN_TOO_MANY = Style.ERROR, "invite: in too many", "[{name} is in too many groups: ask them to leave one.]"
    ENTERED = Style.SYSTEM, "a group was joined", "[Entered group {room} successfully]"
    LEFT = Style.SYSTEM, "a group was left", "[Leave group chat {room}]"
    CURRENT_NOW = Style.SYSTEM, "another one is the current one now", "[The current group is {room} now.]"
    ROOM_POSTED = Style.SYSTEM, "group message accepted", "({room}) [Message received by Server.]"
    ROOM_MESSAGE = (
        Style.GROUP,
        "group message arrives",
        "({room}) Group_Message {name}: {text}",
        "({room}) Channel_Message {name} : {text}",
    )
    ROOM_LETTER = (
        Style.GROUP,
        "to a group",
        "({room}) Group_Message {name}: {time} {text}",
        "({room}) {stamp} Channel_Message {name} : {text}",
    )
    ROOM_MISSED = (
        Style.ERROR,
        "messages to a group missed",
        "({room}) [{count} group messages were not kept: there were too many.]",
    )
    ROOMS = Style.PLAIN, "list_groups: above the groups", "[Available group chats:]"
    ROOM_ROW = Style.PLAIN, "list_groups: a group", "{room}"
    JOINED_ROOM_ROW = Style.PLAIN, "list_groups: a group that you are in", "{room} (you are in it)"
    CURRENT_ROOM_ROW = Style.PLAIN, "list_groups: the current group", "{room} (current)"
    MEMBERS = Style.PLAIN, "list_members: above the names", "({room}) [Members in the group {room}:]"
    MEMBER_ROW = Style.PLAIN, "list_members: a name", "({room}) {name}"
    GONE_MEMBER_ROW = (
        Style.PLAIN,
        "list_members: somebody who is not in the private group any more, and has its key",
        "({room}) {name} (has left, says the server; the group has no new key yet)",
    )
    ROOM_EXISTS = Style.ERROR, "create_group: there is such a group", "[Group {room} already exists.]"
    NO_SUCH_ROOM = Style.ERROR, "no such group", "[Group {room} does not exist]"
    NOT_A_MEMBER = Style.ERROR, "not in the group", "[You are not in group {room}. Type join_group {room}]"
    EVERYONE_STAYS = Style.ERROR, "leave_group everyone", "[Everybody is in group {room}: nobody can leave it.]"
    ROOM_FULL = Style.ERROR, "the group is full", "[Group {room} is full: try again later, or create another one.]"
    TOO_MANY_ROOMS = Style.ERROR, "in too many groups", "[You are in too many groups: leave one of them first.]"
    NO_MORE_ROOMS = (
        Style.ERROR,
        "create_group: the server takes no more",
        "[The server takes no more groups from you: join one, or try again later.]",
    )
    WHICH_GROUP = (
        Style.ERROR,
        "send_group, leave_group, list_members, and no group is chosen",
        "[Which group? You are in {text}. Type {key}.]",
    )
    GROUPS_UNKNOWN = (
        Style.ERROR,
        "send_group while the server does not respond, and your group is not known",
        "[Your message to your group was not sent: the server is not responding, and it is not known which group that"
        " is. Type send #NAME TEXT.]",
    )
    IN_NO_ROOM = Style.ERROR, "send_group, list_members in no group", "[You are in no group. Type {key}.]"
    NONE_TO_LEAVE = Style.ERROR, "leave_group in no group", "[You are in no group.]"
    REG_SENT = Style.SYSTEM, "registering again", "[RegSent]", ""
    LETTERS = Style.SYSTEM, "before the first letter of a return", "[You have offline messages:]", "[You have message]"
    LETTER = Style.DIRECT, "letter that came while away", "{name}: {time} {text}", "{stamp} {name} : {text}"
    GROUP_LETTER = Style.GROUP, "to all", "Group Chat {name}: {time} {text}", "{stamp} Channel_Message {name} : {text}"
    HAS_LETTERS = Style.SYSTEM, "registered again, letters follow", ""
    NO_LETTERS = Style.SYSTEM, "registered again, no new letter", "[You have no offline messages.]", ""
    MISSED = Style.ERROR, "group messages missed", "[{count} group messages were not kept: there were too many.]"
    NO_SERVER = (
        Style.ERROR,
        "no answer from the server after 5 attempts",
        "[Server not responding] / [Exiting]",
        "[Message sent failed] / [Server is shut down] / [Exiting]",
    )
    UNSENT = (
        Style.ERROR,
        "before that, after send_group; at a terminal also after send and send_all",
        "[Your message to {text} was probably not sent.]",
    )
    MESSAGE_WAITS = (
        Style.ERROR,
        "with --reconnect: a message has to wait",
        "[Your message to {text} waits: {key}; cancel {count} withdraws it.]",
    )
    MESSAGE_QUEUED = (
        Style.ERROR,
        "the same, after trio-chat send --queue",
        "[Your message to {text} waits: {key}. The next send --queue or client --reconnect sends it.]",
    )
    WAITED = Style.SYSTEM, "a message that had to wait was sent", "[Your message to {text} of {time} was {key}.]"
    FAILED = (
        Style.ERROR,
        "with --reconnect: a message was not sent; the reason follows",
        "[Your message to {text} of {time} was not sent:]",
    )
    UNCERTAIN = Style.ERROR, "the same, if it may have arrived", "[Your message to {text} of {time} has failed:]"
    ALL_WAITING = (
        Style.ERROR,
        "at the end with --reconnect, at the start without: messages wait",
        "[Messages that wait to be sent: {count}. The next start with --reconnect sends them.]",
    )
    OTHERS_WAIT = Style.ERROR, "the same, at the end of send --queue", "[Other messages wait, too: {count}.]"
    ALL_SILENT = Style.ERROR, "the server is silent, and messages wait", "[Messages that wait to be sent: {count}.]"
    OUTBOX_ROW = Style.PLAIN, "outbox: a message that waits", "{count}  {date}  to {key}: {text}"
    OUTBOX_TRIED_ROW = Style.PLAIN, "outbox: one that may have arrived", "{count}  {date}  to {key} (tried): {text}"
    OUTBOX_EMPTY = Style.PLAIN, "outbox: no message waits", "[No message waits to be sent.]"
    CANCELLED = Style.SYSTEM, "cancel", "[Your message to {text} of {time} is withdrawn.]"
    CANCELLED_TRIED = (
        Style.SYSTEM,
        "cancel: it was tried",
        "[Your message to {text} of {time} is withdrawn. It was tried before, and may have arrived.]",
    )
    NOT_DONE = Style.ERROR, "at the end: a command was not carried out", "[Not done: {text}]"
    NEVER_SENT = Style.ERROR, "the same, if it is a message", "[Your message to {text} was not sent.]"
    NO_ANSWER = (
        Style.ERROR,
        "with --reconnect: no answer to another command",
        "[Server not responding: no answer to {text}. Try again later.]",
    )
    SERVER_SILENT = Style.ERROR, "no answer, with --reconnect", "[Server not responding since {time}, trying again.]"
    SERVER_BACK = Style.SYSTEM, "the server answers again", "[Server is back.]"
    INTERRUPTED = Style.SYSTEM, "Ctrl-C", "", "Caught keyboard interrupt. Exiting"
    UNKNOWN_NAME = Style.ERROR, "unknown name", "[No such user: {name}]"
    INVALID_NAME = (
        Style.ERROR,
        "invalid name",
        "[Not a name: {name}. A name has 1 to 32 letters A-Z, digits, _ . - and begins with a letter or digit.]",
    )
    OFFLINE = Style.ERROR, "a command while offline", "[You are offline. Type reg to come back.]"
    ALREADY_REGISTERED = Style.ERROR, "reg while online", "[You are already registered.]"
    ONLY_YOURSELF = Style.ERROR, "reg or dereg of another name", "[You can only do that for yourself.]"
    TO_ONESELF = Style.ERROR, "a message to oneself", "[You cannot send to yourself.]"
    NOTHING = Style.ERROR, "an empty message", "[Nothing to send.]"
    TOO_LONG = Style.ERROR, "a message that is too long", f"[Too long: {{count}} bytes, at most {MAX_TEXT}.]"
    NOT_UNICODE = Style.ERROR, "a message that is not valid Unicode", "[Not valid Unicode, message not sent.]"
    MAILBOX_FULL = Style.ERROR, "mailbox full", "[The mailbox of {name} is full, message not sent.]"
    TOO_FAST = Style.ERROR, "too fast", "[Too fast: try again in {count} s.]"
    MESSAGE_TOO_FAST = (
        Style.ERROR,
        "the same, after send, send_all, send_group",
        "[Too fast: your message to {text} was not sent. Try again in {count} s.]",
    )
    UNKNOWN_COMMAND = (
        Style.ERROR,
        "unknown command",
        "[Unknown command: {text}. Type help, or send_all TEXT to write to all.]",
    )
    SIMILAR_COMMAND = (
        Style.ERROR,
        "unknown command, like another one",
        "[Unknown command: {text}. Did you mean {key}? Type help.]",
    )
    WRONG_USAGE = Style.ERROR, "command with missing or wrong words", "[Usage: {text}]"
    NAME_TAKEN = Style.ERROR, "name refused", "[Name {name} is taken.]"
    SIGNED_IN_ELSEWHERE = (
        Style.ERROR,
        "signed in elsewhere",
        "[Signed in from another place: go on there, or start again here.] / [Exiting]",
    )
    KICKED = Style.ERROR, "the operator has kicked you", "[The operator has signed you off. Type reg to come back.]"
    BANNED = (
        Style.ERROR,
        "you are banned",
        "[You are banned from this server. Ask its operator. When the ban is lifted, type reg.]",
    )
    NAME_DELETED = (
        Style.ERROR,
        "the operator has freed your name",
        "[The operator has freed your name. Type reg to come back.]",
    )
    KEY_CHANGED = (
        Style.WARNING,
        "somebody has another key",
        "[WARNING: the key of {name} has changed!] / [It was {pinned}, now it is {key}.] / [Someone may be posing as"
        " {name}. Ask {name} outside this chat; if the new key is right, type: trust {name}]",
    )
    NOT_SENT = (
        Style.ERROR,
        "below that warning, after `send`",
        "[Message not sent to {name}. After trust {name}, send it again.]",
    )
    NOT_DONE_UNTRUSTED = (
        Style.ERROR,
        "below that warning, after `invite`, `remove`, `owners`",
        "[Not done: {key}. After trust {name}, type it again.]",
    )
    SERVER_KEY_CHANGED = (
        Style.WARNING,
        "the server has another key",
        "[WARNING: the key of the server has changed!] / [It was {pinned}, now it is {key}.] / [Someone may be posing"
        " as the server. If you know that the new key is right, start with --server-key {key}] / [Exiting]",
    )
    SERVER_TOO_OLD = (
        Style.WARNING,
        "the server is older",
        "[The server is older than this program, and they cannot talk.] / [Ask its operator to upgrade the server.] /"
        " [Exiting]",
    )
    SERVER_TOO_NEW = (
        Style.WARNING,
        "the server is newer",
        "[This program is older than the server, and they cannot talk.] / [Upgrade this program, and start it again.] /"
        " [Exiting]",
    )
    TRUSTED = Style.SYSTEM, "a new key accepted", "[The key of {name} is trusted now: {key}]"
    BLOCKED = Style.SYSTEM, "somebody is blocked", "[{name} is blocked now, and is not told: {key}]"
    UNBLOCKED = Style.SYSTEM, "somebody is unblocked", "[{name} is not blocked any more.]"
    BLOCKED_ROW = Style.PLAIN, "blocked: somebody", "{key}  {text}"
    NOBODY_BLOCKED = Style.PLAIN, "blocked: nobody", "[Nobody is blocked.]"
    NOT_OPENED = Style.ERROR, "message not opened", "[Message received by {name}, who could not open it.]"
    SAVED_NOT_OPENED = Style.ERROR, "the same, saved", "[Offline Message sent at {time} could not be opened by {name}.]"
    NOT_DELIVERED = (
        Style.ERROR,
        "a saved message will not arrive",
        "[Offline Message sent at {time} was not delivered: {name} was away too long, or the name was deleted or has a"
        " new owner.]",
    )
    UNREADABLE = (
        Style.WARNING,
        "unreadable letter",
        "[A message that claims to be from {name} could not be opened or verified.]",
    )
    FORGED_RECEIPT = Style.WARNING, "forged receipt", "[WARNING: the server showed a forged receipt of {name}.]"
    WRONG_RECEIPT = (
        Style.WARNING,
        "receipt for another text",
        "[WARNING: {name} signed a receipt for another text than you sent.]",
    )
    TWO_TEXTS = Style.WARNING, "two texts, one id", "[WARNING: {name} sent two texts as one. Only the first is shown.]"
    HEADING = Style.PLAIN, "who: above the rows", "{name}  status    since     {text}  {key}"
    ONLINE_ROW = Style.PLAIN, "who: someone online", "{name}  on line   {time}  {text}  {key}"
    AWAY_ROW = Style.PLAIN, "who: someone away", "{name}  off line  {time}  {text}  {key}"
    TABLE_OLD = (
        Style.ERROR,
        "who: below the rows, while the server does not respond",
        "[The server is not responding since {time}: this may not be so any more.]",
    )
    TABLE_OFFLINE = Style.ERROR, "the same, while offline", "[You are offline: this may not be so any more.]"
    ROW_CHANGED = Style.PLAIN, "who: after a key that has changed", "{key}  KEY CHANGED"
    PASTE = (
        Style.SYSTEM,
        "several lines are pasted",
        "[Paste of {count} lines: run them as commands? y, or any other key for no]",
    )
    PASTE_SENDS = (
        Style.SYSTEM,
        "several lines are pasted behind send NAME, send_all or send_group",
        "[Paste of {count} lines: send each one with {text}? y, or any other key for no]",
    )
    PASTE_DROPPED = Style.SYSTEM, "any other key than y", "[The {count} pasted lines are dropped.]"
    ENTRY = Style.PLAIN, "history: a message received", "[{date} {name}: {text}]", "[{date} {name} : {text}]"
    POST = Style.PLAIN, "to all", "[{date} Group Chat {name}: {text}]", "[{date} Channel_Message {name} : {text}]"
    OWN_ENTRY = Style.PLAIN, "history: a message sent", "[{date} to {name}: {text}]", "[{date} to {name} : {text}]"
    ROOM_POST = (
        Style.PLAIN,
        "to a group",
        "[{date} ({room}) Group_Message {name}: {text}]",
        "[{date} ({room}) Channel_Message {name} : {text}]",
    )
    OWN_ROOM_POST = Style.PLAIN, "to a group", "[{date} to group {room}: {text}]", "[{date} to group {room} : {text}]"
    OWN_POST = Style.PLAIN, "to all", "[{date} Group Chat to all: {text}]", "[{date} Channel_Message to all : {text}]"
    NOTHING_FOUND = Style.PLAIN, "history: no message", "[Nothing found.]"
    NO_HISTORY = Style.ERROR, "the same, with --no-history", "[No history is kept.]"
    FRIEND_ONLINE = Style.SYSTEM, "presence: a friend comes online", "[{name} is online]"
    FRIEND_AWAY = Style.SYSTEM, "presence: a friend goes offline", "[{name} is away]"
    OTHER_ERROR = Style.ERROR, "any other error", "[{text}.]"

    def __init__(self, style: Style, when: str, group: str, channel: str | None = None) -> None:
        self.style = style
        self.when = when
        self.group = group
        self.channel = group if channel is None else channel
