"""Which key belongs to whom: the keys of the server and of each name are pinned at first sight, as ssh does.

A key that the server gives is believed once and compared afterwards. Nothing is opened or sealed here.
"""

from collections.abc import Iterable, Mapping

from trio_chat.client.events import KeyWarning
from trio_chat.crypto.identities import verify_identity
from trio_chat.errors import KeyChanged, KeyNotRemembered, ServerKeyChanged, WrongServerKey
from trio_chat.protocol.records import Credentials, PublicKeys, Record, fingerprint, fold
from trio_chat.storage.client_interface import SERVER, ClientStore

MAX_PINS = 50_000
"""How many keys are pinned by themselves, so that a server cannot fill our memory and disk with names that it invents.

None is forgotten for another one: a server could push out the key of somebody, and then show another one for them.
"""

MAX_VERIFIED = 1000
"""How many credentials are remembered as verified. Those of others are verified again."""


class KeyPins:
    """The pins of one person at one server, in the store that keeps them.

    `expected`: the fingerprint that the server must have. It counts more than the pin.
    """

    def __init__(self, store: ClientStore, expected: str | None = None) -> None:
        self._store = store
        self._expected = expected
        self._verified: dict[str, Credentials] = {}
        self._warned: dict[str, str] = {}
        self.server_key = b""
        """The Ed25519 key of the server that was found."""

    def is_server(self, keys: PublicKeys) -> bool:
        """Whether these are the keys of the server that we know. If we know none, all are."""
        if self._expected:
            return fingerprint(keys.signing) == self._expected
        # The whole key, not the 80 bits that people compare.
        return self._store.pinned(SERVER) in (None, keys.signing)

    def check_server(self, keys: PublicKeys) -> None:
        """Accept the server's key. Raises WrongServerKey if only `expected` differs, else ServerKeyChanged."""
        if not self.is_server(keys):
            offered, pinned = fingerprint(keys.signing), self._store.pinned(SERVER)
            if self._expected and pinned in (None, keys.signing):
                # The server is the one that we know, or we know none: most likely the user mistyped the fingerprint.
                raise WrongServerKey(self._expected, offered)
            raise ServerKeyChanged(self._expected or fingerprint(pinned or b""), offered)
        self.server_key = keys.signing

    def pin_server(self) -> None:
        """Pin the server that was found. Only after an answer over its link: anybody can send its public keys."""
        if self._store.pinned(SERVER) != self.server_key:
            self._store.pin(SERVER, self.server_key)

    def pin_own(self, name: str, keys: PublicKeys) -> None:
        """Pin our own name to our keys: the store may have the pin of a key file that was lost since."""
        if self.signing_key(name) != keys.signing:
            self._store.pin(name, keys.signing)

    def keys(self, record: Record) -> PublicKeys | None:
        """The keys of a name as its row gives them; None if it gives none, or none that are certified for this name.

        Raises KeyChanged if the name is pinned to another key, KeyNotRemembered if it is not and there are too many.
        """
        if record.credentials is None or not self._is_certified(record.name, record.credentials):
            return None
        pinned = self.signing_key(record.name)
        # Else the server could show another key for this name each time.
        if pinned is None and self._is_full():
            raise KeyNotRemembered(record.name, other=record.fingerprint)
        if pinned not in (None, record.credentials.keys.signing):
            raise KeyChanged(record.name, fingerprint(pinned), record.fingerprint)
        return record.credentials.keys

    def signing_key(self, name: str) -> bytes | None:
        """The Ed25519 key that a name is pinned to, whatever key the server gives for it now."""
        return self._store.pinned(name)

    def pin_new(self, records: Iterable[Record]) -> None:
        """Pin the key of each name that has no pin, as long as there are fewer than MAX_PINS."""
        for record in records:
            if record.credentials is not None and self.signing_key(record.name) is None and not self._is_full():
                self.pin(record.name, record.credentials)

    def pin_sender(self, name: str, credentials: Credentials) -> None:
        """The same for somebody who has sent us something, if the credentials are certified for them at this server."""
        if self.signing_key(name) is None and not self._is_full() and self._is_certified(name, credentials):
            self.pin(name, credentials)

    def pin_listed(self, name: str, key: bytes) -> bytes | None:
        """The same for this Ed25519 key of a name in a list; return the one that the name is pinned to now."""
        if self.signing_key(name) is None and not self._is_full():
            self._store.pin(name, key)
        return self.signing_key(name)

    def pin(self, name: str, credentials: Credentials) -> None:
        """Pin a name to this key, whatever it was pinned to before."""
        self._store.pin(name, credentials.keys.signing)

    def new_warnings(self, records: Iterable[Record]) -> list[KeyWarning]:
        """A warning for each of these names that has another key than its pin, once for each such key."""
        warnings = []
        for record in records:
            changed = self._changed_key(record)
            if changed and self._warned.get(fold(record.name)) != changed.offered:
                self._warned[fold(record.name)] = changed.offered
                warnings.append(KeyWarning(changed.name, changed.pinned, changed.offered))
        return warnings

    def changed(self, table: Mapping[str, Record]) -> set[str]:
        """The names, folded, that have another key than their pin."""
        return {fold(record.name) for record in table.values() if self._changed_key(record)}

    def _changed_key(self, record: Record) -> KeyChanged | None:
        if record.credentials is None:
            return None
        pinned = self.signing_key(record.name)
        if pinned is None or pinned == record.credentials.keys.signing:
            return None
        return KeyChanged(record.name, fingerprint(pinned), record.fingerprint)

    def _is_full(self) -> bool:
        return self._store.pin_count() >= MAX_PINS

    def _is_certified(self, name: str, credentials: Credentials) -> bool:
        # Asked for each direct message: the same credentials are verified only once.
        known = self._verified.get(fold(name))
        if known is credentials or known == credentials:
            return True
        if not verify_identity(credentials.keys, credentials.certificate, name=name, server_key=self.server_key):
            return False
        self._verified[fold(name)] = credentials
        if len(self._verified) > MAX_VERIFIED:
            del self._verified[next(iter(self._verified))]
        return True
