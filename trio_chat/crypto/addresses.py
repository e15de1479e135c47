"""The address that somebody has behind their router, sealed for one person: the server that hands it on cannot read it.

Not signed: nothing is believed of it. Somebody sends a greeting there, and only the owner of the right key can answer.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from trio_chat.crypto.identities import Identity
from trio_chat.crypto.letters import HPKE, Unreadable
from trio_chat.crypto.signatures import statement
from trio_chat.protocol.records import Address, PublicKeys, fold

_ADDRESS = "trio_chat/1 address"


def seal_address(address: Address, reader: PublicKeys, *, sender: str, recipient: str) -> bytes:
    """The address, which only the reader can open. Raises Unreadable if the reader's key is not usable."""
    host, port = address
    try:
        key = X25519PublicKey.from_public_bytes(reader.link)
        return HPKE.encrypt(f"{port} {host}".encode(), key, _envelope(sender, recipient))
    except ValueError as error:
        raise Unreadable("the reader's key cannot be used") from error


def open_address_untrusted(sealed: bytes, own: Identity, *, sender: str, recipient: str) -> Address:
    """The address that `sender` has sealed for `recipient`, whose identity is `own`; perhaps not that of a host at all.

    Raises Unreadable, and nothing else, for anything else.
    """
    try:
        port, _, host = HPKE.decrypt(sealed, own.link, _envelope(sender, recipient)).decode().partition(" ")
        if not 0 < int(port) < 65536:
            raise Unreadable("not a port")
    except (InvalidTag, ValueError) as error:
        raise Unreadable("cannot be opened") from error
    return host, int(port)


def _envelope(sender: str, recipient: str) -> bytes:
    return statement(_ADDRESS, fold(sender), fold(recipient))
