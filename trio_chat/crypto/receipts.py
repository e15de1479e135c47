"""Receipts: what the recipient of a message signs when it has arrived, or when it was not shown.

When a receipt is due is decided in client/inbox.py, and how it gets to the sender by the server.
"""

import enum
import hashlib

from trio_chat.crypto.identities import Identity
from trio_chat.crypto.signatures import statement, verify
from trio_chat.protocol.records import fold

HASH_SIZE = 32

NO_HASH = bytes(HASH_SIZE)
"""In place of the hash of a text: the message could not be opened, or another text with its id had come before."""

_RECEIPT = "trio_chat/1 receipt"


class Verdict(enum.StrEnum):
    """What a receipt says about a message."""

    RECEIVED = "received"
    """The recipient has signed that they have this text."""
    NOT_OPENED = "not opened"
    """The recipient has signed that it has arrived, and that they could not open it or did not show it."""
    WRONG_TEXT = "wrong text"
    """The recipient has signed that they have another text."""
    FORGED = "forged"
    """The recipient has not signed this."""


def hash_text(text: str) -> bytes:
    """The SHA-256 of a text in UTF-8, which stands for it in a receipt."""
    return hashlib.sha256(text.encode()).digest()


def sign_receipt(own: Identity, *, id: bytes, sender: str, text_hash: bytes) -> bytes:
    """The receipt for a message of `sender`: the hash of its text or NO_HASH, and the reader's signature; 96 bytes."""
    return text_hash + own.signing.sign(_receipt(id, sender, text_hash))


def verify_receipt(receipt: bytes, key: bytes, *, id: bytes, sender: str) -> bool:
    """Whether the owner of `key` has signed this receipt for a message of `sender`, whatever its text was."""
    text_hash, signature = receipt[:HASH_SIZE], receipt[HASH_SIZE:]
    return verify(key, signature, _receipt(id, sender, text_hash))


def read_receipt(receipt: bytes, key: bytes, *, id: bytes, sender: str, text_hash: bytes) -> Verdict:
    """What this receipt says about a message of `sender` with this text to the owner of `key`."""
    # Who is to blame for a receipt that is not right: if the signature is, the recipient, else the server.
    if not verify_receipt(receipt, key, id=id, sender=sender):
        return Verdict.FORGED
    signed_hash = receipt[:HASH_SIZE]
    if signed_hash == NO_HASH:
        return Verdict.NOT_OPENED
    return Verdict.RECEIVED if signed_hash == text_hash else Verdict.WRONG_TEXT


def _receipt(id: bytes, sender: str, text_hash: bytes) -> bytes:
    return statement(_RECEIPT, id, fold(sender), text_hash)
