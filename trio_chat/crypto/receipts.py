"""Receipts: what the recipient of a message signs for it, and what they sign when it could not be opened.

When a receipt is due is decided by the client's inbox; how it travels is the server's business.
"""

import hashlib

from trio_chat.crypto.identities import Identity
from trio_chat.crypto.signatures import statement, verify
from trio_chat.protocol.records import fold

__all__ = ["make_receipt", "sign_unreadable", "verify_receipt", "verify_unreadable"]

HASH_SIZE = 32

_RECEIPT = "trio_chat/1 receipt"
_UNREADABLE = "trio_chat/1 unreadable"


def make_receipt(own: Identity, *, id: bytes, sender: str, text: str) -> bytes:
    """What the reader of a text of `sender` gives for it: the text's SHA-256 and his signature, 96 bytes."""
    text_hash = hashlib.sha256(text.encode()).digest()
    return text_hash + own.signing.sign(_receipt(id, sender, text_hash))


def verify_receipt(receipt: bytes, key: bytes, *, id: bytes, sender: str, text: str | None = None) -> bool:
    """Whether the owner of `key` has given this for a message of `sender`; with `text`, for that text."""
    text_hash, signature = receipt[:HASH_SIZE], receipt[HASH_SIZE:]
    if text is not None and text_hash != hashlib.sha256(text.encode()).digest():
        return False
    return verify(key, signature, _receipt(id, sender, text_hash))


def _receipt(id: bytes, sender: str, text_hash: bytes) -> bytes:
    return statement(_RECEIPT, id, fold(sender), text_hash)


def sign_unreadable(own: Identity, *, id: bytes, sender: str) -> bytes:
    """The reader's signature: a letter of `sender` came that could not be opened."""
    return own.signing.sign(statement(_UNREADABLE, id, fold(sender)))


def verify_unreadable(key: bytes, signature: bytes, *, id: bytes, sender: str) -> bool:
    """Whether the owner of `key` says that this letter could not be opened."""
    return verify(key, signature, statement(_UNREADABLE, id, fold(sender)))
