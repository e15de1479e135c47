"""A chat for people on one network: `open_chat` to take part, `serve_chat` to serve it.

Nothing is defined here; the names are in the packages and modules that they are imported from. Each is imported when it
is first used: a client does not import the server, and the command line imports what its command needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names as in the table below, for type checkers and editors
    from trio_chat.client.block_list import Blocked as Blocked
    from trio_chat.client.chat import Chat as Chat
    from trio_chat.client.events import (
        Delivery as Delivery,
        Event as Event,
        Fallback as Fallback,
        ForgedReceiptReceived as ForgedReceiptReceived,
        GroupMessageReceived as GroupMessageReceived,
        GroupMessagesMissed as GroupMessagesMissed,
        HistoryEntry as HistoryEntry,
        KeyWarning as KeyWarning,
        LetterReceived as LetterReceived,
        LetterUnreadable as LetterUnreadable,
        MemberJoined as MemberJoined,
        MemberLeft as MemberLeft,
        MessageNotDelivered as MessageNotDelivered,
        MessageNotOpened as MessageNotOpened,
        MessageReceived as MessageReceived,
        MessageState as MessageState,
        OutgoingChanged as OutgoingChanged,
        ReceiptReceived as ReceiptReceived,
        RemovedFromRoom as RemovedFromRoom,
        RoomMembersChanged as RoomMembersChanged,
        RoomNotTrusted as RoomNotTrusted,
        SecondTextReceived as SecondTextReceived,
        ServerBack as ServerBack,
        ServerSilent as ServerSilent,
        SignedOff as SignedOff,
        TableChanged as TableChanged,
        WrongReceiptReceived as WrongReceiptReceived,
    )
    from trio_chat.client.opening import open_chat as open_chat
    from trio_chat.client.outbox import Outbox as Outbox
    from trio_chat.client.people import Person as Person
    from trio_chat.client.rooms import RoomInfo as RoomInfo
    from trio_chat.client.search import (
        FoundServer as FoundServer,
        find_servers as find_servers,
    )
    from trio_chat.crypto.identities import Identity as Identity
    from trio_chat.errors import (
        AddressError as AddressError,
        Banned as Banned,
        BlockedYourself as BlockedYourself,
        ChatError as ChatError,
        ForgedReceipt as ForgedReceipt,
        IdentityError as IdentityError,
        IdInUse as IdInUse,
        InRoomAlready as InRoomAlready,
        InvalidName as InvalidName,
        InvalidRecipient as InvalidRecipient,
        InvalidText as InvalidText,
        KeyChanged as KeyChanged,
        KeyNotRemembered as KeyNotRemembered,
        Kicked as Kicked,
        LastOwner as LastOwner,
        ListTooLong as ListTooLong,
        MailboxFull as MailboxFull,
        MembersNotTrusted as MembersNotTrusted,
        NameDeleted as NameDeleted,
        NameTaken as NameTaken,
        NoHistory as NoHistory,
        NoMoreRooms as NoMoreRooms,
        NoRoom as NoRoom,
        NoSuchRoom as NoSuchRoom,
        NotAMember as NotAMember,
        NotAnOwner as NotAnOwner,
        NotBlocked as NotBlocked,
        NotInRoom as NotInRoom,
        NotInvited as NotInvited,
        NotOpened as NotOpened,
        NotRegistered as NotRegistered,
        NotWaiting as NotWaiting,
        OutboxFull as OutboxFull,
        PresenceLost as PresenceLost,
        PresenceRefused as PresenceRefused,
        RegistrationClosed as RegistrationClosed,
        RemovedYourself as RemovedYourself,
        RoomExists as RoomExists,
        RoomFull as RoomFull,
        RoomIsOpen as RoomIsOpen,
        RoomIsPrivate as RoomIsPrivate,
        ServerKeyChanged as ServerKeyChanged,
        ServerNotResponding as ServerNotResponding,
        ServerTooNew as ServerTooNew,
        ServerTooOld as ServerTooOld,
        SignedInElsewhere as SignedInElsewhere,
        StoreError as StoreError,
        StoreFailed as StoreFailed,
        StoreHeld as StoreHeld,
        TheyAreInTooManyRooms as TheyAreInTooManyRooms,
        TooFast as TooFast,
        TooManyBlocked as TooManyBlocked,
        TooManyNames as TooManyNames,
        TooManyOwners as TooManyOwners,
        TooManyPeople as TooManyPeople,
        TooManyRooms as TooManyRooms,
        TriedTooLong as TriedTooLong,
        UnknownRecipient as UnknownRecipient,
        WrongReceipt as WrongReceipt,
        WrongServerKey as WrongServerKey,
    )
    from trio_chat.presence.client import (
        Friends as Friends,
        watch_friends as watch_friends,
    )
    from trio_chat.presence.messages import FriendChanged as FriendChanged
    from trio_chat.presence.roster import Roster as Roster
    from trio_chat.presence.server import serve_presence as serve_presence
    from trio_chat.protocol.limits import (
        Limits as Limits,
        Rate as Rate,
    )
    from trio_chat.server.moderation import RegistrationMode as RegistrationMode
    from trio_chat.server.server import serve_chat as serve_chat
    from trio_chat.storage.client_store import open_client_store as open_client_store
    from trio_chat.storage.identity_file import open_identity as open_identity
    from trio_chat.storage.outgoing import Outgoing as Outgoing
    from trio_chat.storage.server_store import open_server_store as open_server_store

__version__ = "0.1.0"

_NAMES = {
    "client.block_list": "Blocked",
    "client.chat": "Chat",
    "client.events": """
        Delivery Event Fallback ForgedReceiptReceived GroupMessageReceived GroupMessagesMissed HistoryEntry
        KeyWarning LetterReceived LetterUnreadable MemberJoined MemberLeft MessageNotDelivered MessageNotOpened
        MessageReceived MessageState OutgoingChanged ReceiptReceived RemovedFromRoom RoomMembersChanged
        RoomNotTrusted SecondTextReceived ServerBack ServerSilent SignedOff TableChanged WrongReceiptReceived
    """,
    "client.opening": "open_chat",
    "client.outbox": "Outbox",
    "client.people": "Person",
    "client.rooms": "RoomInfo",
    "client.search": "FoundServer find_servers",
    "crypto.identities": "Identity",
    "errors": """
        AddressError Banned BlockedYourself ChatError ForgedReceipt IdentityError IdInUse InRoomAlready
        InvalidName InvalidRecipient InvalidText KeyChanged KeyNotRemembered Kicked LastOwner ListTooLong
        MailboxFull MembersNotTrusted NameDeleted NameTaken NoHistory NoMoreRooms NoRoom NoSuchRoom NotAMember
        NotAnOwner NotBlocked NotInRoom NotInvited NotOpened NotRegistered NotWaiting OutboxFull PresenceLost
        PresenceRefused RegistrationClosed RemovedYourself RoomExists RoomFull RoomIsOpen RoomIsPrivate
        ServerKeyChanged ServerNotResponding ServerTooNew ServerTooOld SignedInElsewhere
        StoreError StoreFailed StoreHeld
        TheyAreInTooManyRooms TooFast TooManyBlocked TooManyNames TooManyOwners TooManyPeople TooManyRooms
        TriedTooLong UnknownRecipient WrongReceipt WrongServerKey
    """,
    "presence.client": "Friends watch_friends",
    "presence.messages": "FriendChanged",
    "presence.roster": "Roster",
    "presence.server": "serve_presence",
    "protocol.limits": "Limits Rate",
    "server.moderation": "RegistrationMode",
    "server.server": "serve_chat",
    "storage.client_store": "open_client_store",
    "storage.identity_file": "open_identity",
    "storage.outgoing": "Outgoing",
    "storage.server_store": "open_server_store",
}
_MODULES = {name: f"trio_chat.{module}" for module, names in _NAMES.items() for name in names.split()}


if not TYPE_CHECKING:  # for a type checker, it would make every misspelt name of the package an object

    def __getattr__(name: str) -> object:
        """Import a public name."""
        if name == "__all__":
            return sorted(_MODULES)
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(_MODULES[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
