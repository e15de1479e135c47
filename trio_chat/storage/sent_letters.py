"""The letters of a client that wait for their receipts: what a store keeps of them, and how it has them in memory.

What is on the disk is in client_rows.py. Nothing is sent or received here.
"""

from collections.abc import Iterable
from typing import Protocol

import attrs

from trio_chat.protocol.records import fold

SENT_LIMIT = 10_000


@attrs.frozen
class SentLetter:
    """A letter that waits for its receipt: to whom, their Ed25519 key, the SHA-256 of its text, when it was sent.

    `saved_at`: when the server has said that it keeps it, by our clock; None if it has not, or has it no longer.
    """

    id: bytes
    recipient: str
    key: bytes
    hash: bytes
    at: float
    saved_at: float | None = None


class SentLetterStore(Protocol):
    """A part of a ClientStore."""

    async def will_send(self, letter: SentLetter) -> None:
        """Remember a letter, before the server gets it, until `settled` is called. The newest SENT_LIMIT are known."""

    def sent(self, id: bytes) -> SentLetter | None:
        """The letter with this id, if it waits for its receipt."""

    def saved(self, id: bytes, at: float) -> None:
        """The server keeps this letter since then. May become durable a little later (100 ms)."""

    def passed(self, recipient: str) -> None:
        """They have been given all letters that were sent to this name. May become durable a little later (100 ms)."""

    def newest_at_server(self, recipient: str) -> SentLetter | None:
        """The newest letter to this name that the server keeps: it is saved, has no receipt, and is not passed."""

    def is_at_server(self, recipient: str, since: float) -> bool:
        """Whether the server keeps a letter to this name since later than this."""

    def settled(self, id: bytes) -> None:
        """The user knows what became of this letter. May become durable a little later (100 ms)."""

    def knows_all_sent(self) -> bool:
        """Whether each letter that may still get a receipt is remembered: not for 30 days after an older version."""


class SentLetters:
    """The newest SENT_LIMIT letters. Both client stores have them in this form."""

    def __init__(self, letters: Iterable[SentLetter] = ()) -> None:
        self._letters: dict[bytes, SentLetter] = {}
        # Of each recipient, those that the server keeps.
        self._at_server: dict[str, dict[bytes, SentLetter]] = {}
        for letter in letters:
            self.add(letter)

    def get(self, id: bytes) -> SentLetter | None:
        """The letter with this id."""
        return self._letters.get(id)

    def add(self, letter: SentLetter) -> list[bytes]:
        """Add a letter; return the ids of those that are forgotten for it."""
        self.remove(letter.id)
        self._letters[letter.id] = letter
        if letter.saved_at is not None:
            self._at_server.setdefault(fold(letter.recipient), {})[letter.id] = letter
        forgotten = []
        while len(self._letters) > SENT_LIMIT:
            # First one that is not the last at the server to somebody: that one says that nothing may overtake it.
            oldest = next((id_ for id_, one in self._letters.items() if not self._is_last(one)), letter.id)
            forgotten.append(oldest)
            self.remove(oldest)
        return forgotten

    def _is_last(self, letter: SentLetter) -> bool:
        at_server = self._at_server.get(fold(letter.recipient))
        return at_server is not None and next(reversed(at_server)) == letter.id

    def saved(self, id: bytes, at: float) -> bool:
        """The server keeps this letter. Returns whether that is new."""
        letter = self._letters.get(id)
        if letter is None or letter.saved_at is not None:
            return False
        letter = self._letters[id] = attrs.evolve(letter, saved_at=at)
        self._at_server.setdefault(fold(letter.recipient), {})[id] = letter
        return True

    def passed(self, recipient: str) -> bool:
        """The server keeps none to this name any more. Returns whether it did."""
        letters = self._at_server.pop(fold(recipient), {})
        self._letters.update((id_, attrs.evolve(letter, saved_at=None)) for id_, letter in letters.items())
        return bool(letters)

    def remove(self, id: bytes) -> bool:
        """Remove a letter; return whether it was there."""
        letter = self._letters.pop(id, None)
        if letter is None:
            return False
        to, at_server = fold(letter.recipient), self._at_server
        at_server.get(to, {}).pop(id, None)
        if not at_server.get(to, True):
            del at_server[to]
        return True

    def newest_at_server(self, recipient: str) -> SentLetter | None:
        """The newest one to this name that the server keeps: the last, so not all of them have to be looked at."""
        letters = self._at_server.get(fold(recipient))
        return next(reversed(letters.values())) if letters else None

    def is_at_server(self, recipient: str, since: float) -> bool:
        """Whether the server keeps one to this name since later than this."""
        newest = self.newest_at_server(recipient)
        return newest is not None and (newest.saved_at or 0.0) > since
