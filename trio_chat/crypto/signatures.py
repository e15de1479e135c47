"""The bytes that are signed, and how a signature is verified.

What the statements mean is in the modules that make them: identities, letters, receipts.
"""

import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE_SIZE = 64
"""Bytes of an Ed25519 signature (RFC 8032)."""

TIME = struct.Struct(">d")
"""How a time is written in what is signed: seconds since 1970, UTC, as a double."""


def statement(domain: str, *fields: bytes | str | float) -> bytes:
    """The bytes to sign. `domain` names the kind of statement; no two kinds may have the same.

    It separates the uses of a key: without it, a signature of one kind with fields of the right form would be valid as
    one of another kind. The length before each field does the same for the fields: ("ab", "c") is not ("a", "bc").
    """
    stated = bytearray()
    for field in (domain, *fields):
        match field:
            case str():
                raw = field.encode()
            case float() | int():
                raw = TIME.pack(field)
            case _:
                raw = field
        stated += len(raw).to_bytes(4, "big") + raw
    return bytes(stated)


def verify(key: bytes, signature: bytes, stated: bytes) -> bool:
    """Whether this is the signature of `stated` by the owner of `key`. False also if `key` is not a key."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, stated)
    except (InvalidSignature, ValueError):
        return False
    return True
