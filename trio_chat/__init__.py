"""A chat for people on one network: `open_chat` to take part, `serve_chat` to serve it.

Nothing is defined here; the names are in the packages and modules that they are imported from.
"""

from trio_chat.client.chat import Chat, open_chat
from trio_chat.client.events import (
    Delivery,
    Event,
    Fallback,
    ForgedReceiptReceived,
    GroupMessageReceived,
    GroupMessagesMissed,
    HistoryEntry,
    KeyWarning,
    LetterReceived,
    LetterUnreadable,
    MessageNotDelivered,
    MessageNotOpened,
    MessageReceived,
    ReceiptReceived,
    ServerBack,
    ServerSilent,
    SignedOff,
    TableChanged,
    WrongReceiptReceived,
)
from trio_chat.crypto.identities import Identity
from trio_chat.errors import (
    AddressError,
    ChatError,
    ForgedReceipt,
    IdentityError,
    InvalidName,
    InvalidRecipient,
    InvalidText,
    KeyChanged,
    MailboxFull,
    NameTaken,
    NoHistory,
    NotOpened,
    NotRegistered,
    PresenceLost,
    PresenceRefused,
    ServerKeyChanged,
    ServerNotResponding,
    SignedInElsewhere,
    StoreError,
    StoreFailed,
    StoreHeld,
    TooFast,
    UnknownRecipient,
    WrongReceipt,
    WrongServerKey,
)
from trio_chat.presence.client import Friends, watch_friends
from trio_chat.presence.messages import FriendChanged
from trio_chat.presence.roster import Roster
from trio_chat.presence.server import serve_presence
from trio_chat.server.server import serve_chat
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.identity_file import open_identity
from trio_chat.storage.server_store import open_server_store

__all__ = [
    "AddressError",
    "Chat",
    "ChatError",
    "Delivery",
    "Event",
    "Fallback",
    "ForgedReceipt",
    "ForgedReceiptReceived",
    "FriendChanged",
    "Friends",
    "GroupMessageReceived",
    "GroupMessagesMissed",
    "HistoryEntry",
    "Identity",
    "IdentityError",
    "InvalidName",
    "InvalidRecipient",
    "InvalidText",
    "KeyChanged",
    "KeyWarning",
    "LetterReceived",
    "LetterUnreadable",
    "MailboxFull",
    "MessageNotDelivered",
    "MessageNotOpened",
    "MessageReceived",
    "NameTaken",
    "NoHistory",
    "NotOpened",
    "NotRegistered",
    "PresenceLost",
    "PresenceRefused",
    "ReceiptReceived",
    "Roster",
    "ServerBack",
    "ServerKeyChanged",
    "ServerNotResponding",
    "ServerSilent",
    "SignedInElsewhere",
    "SignedOff",
    "StoreError",
    "StoreFailed",
    "StoreHeld",
    "TableChanged",
    "TooFast",
    "UnknownRecipient",
    "WrongReceipt",
    "WrongReceiptReceived",
    "WrongServerKey",
    "open_chat",
    "open_client_store",
    "open_identity",
    "open_server_store",
    "serve_chat",
    "serve_presence",
    "watch_friends",
]

__version__ = "0.1.0"
