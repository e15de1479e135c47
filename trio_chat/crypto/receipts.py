"""Receipts: what the recipient of a message signs when it has arrived, or when it could not be opened.

When a receipt is due is decided in client/inbox.py, and how it gets to the sender by the server.
"""

import hashlib

from trio_chat.crypto.identities import Identity
from trio_chat.crypto.signatures import statement, verify
from trio_chat.protocol.records import fold

HASH_SIZE = 32

_RECEIPT = "trio_chat/1 receipt"
_UNREADABLE = "trio_chat/1 unreadable"


def sign_receipt(own: Identity, *, id: bytes, sender: str, text: str) -> bytes:
    """The receipt for a text of `sender`: the SHA-256 of the text, and the reader's signature; 96 bytes."""
    text_hash = hashlib.sha256(text.encode()).digest()
    return text_hash + own.signing.sign(_receipt(id, sender, text_hash))


def verify_receipt(receipt: bytes, key: bytes, *, id: bytes, sender: str, text: str | None = None) -> bool:
    """Whether the owner of `key` has signed this receipt for a message of `sender`; with `text`, for that text."""
    # The hash is inside, so that a receipt can be checked after a restart, when the text is no longer known.
    text_hash, signature = receipt[:HASH_SIZE], receipt[HASH_SIZE:]
    if text is not None and text_hash != hashlib.sha256(text.encode()).digest():
        return False
    return verify(key, signature, _receipt(id, sender, text_hash))


def _receipt(id: bytes, sender: str, text_hash: bytes) -> bytes:
    return statement(_RECEIPT, id, fold(sender), text_hash)


def sign_unreadable(own: Identity, *, id: bytes, sender: str) -> bytes:
    """The reader's signature that a letter of `sender` could not be opened."""
    return own.signing.sign(statement(_UNREADABLE, id, fold(sender)))


def verify_unreadable(key: bytes, signature: bytes, *, id: bytes, sender: str) -> bool:
    """Whether the owner of `key` has signed that this letter could not be opened."""
    return verify(key, signature, statement(_UNREADABLE, id, fold(sender)))
