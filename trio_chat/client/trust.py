"""Which key is whose: those of the server and of each name are remembered at first sight, as ssh does.

What the server says of keys is believed once, and afterwards compared. Nothing is opened or sealed here.
"""

from collections.abc import Iterable, Mapping

from trio_chat.client.events import KeyWarning
from trio_chat.crypto.identities import verify_identity
from trio_chat.errors import KeyChanged, ServerKeyChanged, WrongServerKey
from trio_chat.protocol.records import Credentials, PublicKeys, Record, fingerprint, fold
from trio_chat.storage.interface import SERVER, ClientStore

__all__ = ["Trust"]


class Trust:
    """The pins of one person at one server, over the store that keeps them.

    `expected`: the fingerprint that the server must have; it counts more than the pin.
    """

    def __init__(self, store: ClientStore, expected: str | None = None) -> None:
        self._store = store
        self._expected = expected
        self._server = b""
        self._verified: dict[str, Credentials] = {}
        self._warned: dict[str, bytes] = {}

    # --- the server ---

    @property
    def server_key(self) -> bytes:
        """The Ed25519 key of the server that was met."""
        return self._server

    def meet_server(self, keys: PublicKeys) -> None:
        """Accept the server's key. Raises WrongServerKey if only `expected` differs, else ServerKeyChanged."""
        offered, pinned = fingerprint(keys.signing), self._store.pinned(SERVER)
        known = fingerprint(pinned) if pinned else offered
        if self._expected and self._expected != offered == known:
            # The server is the one that we know, or we know none: most likely the user mistyped the fingerprint.
            raise WrongServerKey(self._expected, offered)
        if (self._expected or known) != offered:
            raise ServerKeyChanged(self._expected or known, offered)
        self._server = keys.signing

    def keep_server(self) -> None:
        """The server that was met has shown that it has its keys: from now on it is known by them."""
        if self._store.pinned(SERVER) != self._server:
            self._store.pin(SERVER, self._server)

    # --- names ---

    def note(self, records: Iterable[Record]) -> list[KeyWarning]:
        """Remember the key of each name that is new; return a warning for each other key, once."""
        warnings = []
        for record in records:
            if record.credentials is None:
                continue
            name, key = fold(record.name), record.credentials.keys.signing
            if self._store.pinned(name) is None:
                self._store.pin(name, key)
            changed = self._change(record)
            if changed and self._warned.get(name) != key:
                self._warned[name] = key
                warnings.append(KeyWarning(changed.name, changed.pinned, changed.offered))
        return warnings

    def changed(self, table: Mapping[str, Record]) -> set[str]:
        """The names, folded, that have another key than we know them by."""
        return {fold(record.name) for record in table.values() if self._change(record)}

    def _change(self, record: Record) -> KeyChanged | None:
        """What is to be said if the server gives another key for a name than we know it by."""
        pinned = self.signing_key(record.name)
        if pinned is None or record.credentials is None or pinned == record.credentials.keys.signing:
            return None
        return KeyChanged(record.name, fingerprint(pinned), record.fingerprint)

    def signing_key(self, name: str) -> bytes | None:
        """The Ed25519 key by which a name is known, whatever the server says of it now."""
        return self._store.pinned(fold(name))

    def keys(self, record: Record) -> PublicKeys | None:
        """The keys of a name, if the server gives the right ones; None where it gives none that belong to it.

        Raises KeyChanged if the name is known by another key.
        """
        credentials = record.credentials
        if credentials is None or not self._is_certified(record.name, credentials):
            return None
        self.note([record])
        if changed := self._change(record):
            raise changed
        return credentials.keys

    def accept(self, record: Record) -> None:
        """The key that the server gives for this name now is right."""
        if record.credentials is not None:
            self._store.pin(fold(record.name), record.credentials.keys.signing)

    def _is_certified(self, name: str, credentials: Credentials) -> bool:
        """Once verified, the same credentials are not verified again."""
        if self._verified.get(fold(name)) == credentials:
            return True
        keys, certificate = credentials.keys, credentials.certificate
        if not verify_identity(keys, certificate, name=name, server_key=self._server):
            return False
        self._verified[fold(name)] = credentials
        return True
