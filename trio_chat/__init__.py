"""A chat for people on one network: `open_chat` to take part, `serve_chat` to serve it.

Names are re-exported here and live elsewhere: the client in client/, the server in server/, errors in errors.py.
"""

from trio_chat.client.events import (
    Delivery,
    Event,
    Fallback,
    GroupMessageReceived,
    GroupMessagesMissed,
    LetterReceived,
    MessageReceived,
    ReceiptReceived,
    ServerBack,
    ServerSilent,
    SignedOff,
    TableChanged,
)
from trio_chat.client.friends import FriendChanged, Friends, watch_friends
from trio_chat.client.session import Chat, open_chat
from trio_chat.errors import (
    AddressError,
    ChatError,
    InvalidName,
    InvalidRecipient,
    InvalidText,
    MailboxFull,
    NameTaken,
    NotRegistered,
    PresenceLost,
    PresenceRefused,
    ServerNotResponding,
    StoreError,
    StoreFailed,
    UnknownRecipient,
)
from trio_chat.server.chat import serve_chat
from trio_chat.server.presence import serve_presence
from trio_chat.server.roster import Roster
from trio_chat.storage.client_store import open_client_store
from trio_chat.storage.server_store import open_server_store

__all__ = [
    "AddressError",
    "Chat",
    "ChatError",
    "Delivery",
    "Event",
    "Fallback",
    "FriendChanged",
    "Friends",
    "GroupMessageReceived",
    "GroupMessagesMissed",
    "InvalidName",
    "InvalidRecipient",
    "InvalidText",
    "LetterReceived",
    "MailboxFull",
    "MessageReceived",
    "NameTaken",
    "NotRegistered",
    "PresenceLost",
    "PresenceRefused",
    "ReceiptReceived",
    "Roster",
    "ServerBack",
    "ServerNotResponding",
    "ServerSilent",
    "SignedOff",
    "StoreError",
    "StoreFailed",
    "TableChanged",
    "UnknownRecipient",
    "open_chat",
    "open_client_store",
    "open_server_store",
    "serve_chat",
    "serve_presence",
    "watch_friends",
]

__version__ = "0.1.0"
