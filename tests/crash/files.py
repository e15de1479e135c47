"""What a crash test leaves behind: the logs of the clients, their stores, and the server's store. Read only.

Texts are told by their SHA-256, which the stores keep when a text itself is lost. Each text is sent once.
"""

import json
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing

import attrs

from trio_chat.crypto.receipts import hash_text

OUTBOX = "outbox: "
"""How the results of messages begin that have gone by the outbox."""


@attrs.frozen
class Kill:
    """Whose process was killed, and between which moments (monotonic seconds): sending the signal takes some time."""

    name: str
    after: float
    before: float


@attrs.frozen
class Message:
    """What a client tried to send. `how` is the result, None if none came; `answered_at` is when it came.

    `number` and `accepted_at`: if the outbox has accepted it. Then it is promised to arrive; `put_at` is its own time.
    `told`: when the sender was told what has become of it, in order. After a kill that may happen again.
    """

    sender: str
    text: str
    recipient: str | None
    tried: float
    how: str | None = None
    sent_at: float | None = None
    answered_at: float | None = None
    number: int | None = None
    accepted_at: float | None = None
    put_at: float | None = None
    told: tuple[tuple[float, str], ...] = ()

    @property
    def is_promised(self):
        """Whether it must arrive, whoever is killed."""
        return self.accepted_at is not None and self.how != f"{OUTBOX}failed"


class Log:
    """What one client did and showed, in all its runs."""

    def __init__(self, folder, name):
        self.messages: dict[str, Message] = {}
        self.shown: dict[str, list[float]] = defaultdict(list)
        self.entries: list[list[str]] = []
        """The texts that came for certain as entries of the log, in order, for each run."""
        self.receipts: dict[tuple[str, float], list[float]] = defaultdict(list)
        self.missed = 0
        self.refused: Counter[str] = Counter()
        self.waited: Counter[str] = Counter()
        self.alarms: list[str] = []
        self.failed: list[str] = []
        """Messages of the outbox that have failed, with their errors."""
        self._texts: dict[int, str] = {}
        self.ticks = [at for line in (folder / f"{name}.ticks").read_text().splitlines() for at in json.loads(line)]
        for line in (folder / f"{name}.log").read_text().splitlines():
            self._read(name, json.loads(line))

    def _read(self, name, line):
        match line:
            case _, "online":
                self.entries.append([])
            case at, "tries", text, recipient:
                self.messages[text] = Message(name, text, recipient, at)
            case at, "sent", text, how, sent_at:
                self.messages[text] = attrs.evolve(self.messages[text], how=how, sent_at=sent_at, answered_at=at)
            case at, "puts", text, recipient:
                self.messages[text] = Message(name, text, recipient, at)
            case at, "accepted", text, number, put_at:
                self._accept(text, number=number, accepted_at=at, put_at=put_at)
            case at, "keeps", text, number, put_at:
                if self.messages[text].accepted_at is None:
                    self._accept(text, number=number, accepted_at=at, put_at=put_at)
            case at, "told", number, how, sent_at, error:
                self._tell(at, self._texts[number], how, sent_at, error)
            case _, "waits", why:
                self.waited[why] += 1
            case at, "shows", text, is_entry:
                self.shown[text].append(at)
                if is_entry:
                    self.entries[-1].append(text)
            case at, "receipt", recipient, sent_at:
                self.receipts[recipient, sent_at].append(at)
            case _, "missed", count:
                self.missed += count
            case _, "refused", why:
                self.refused[why] += 1
            case at, "alarm", what:
                self.alarms.append(f"{what} at {at:.3f}")
            case _, "stopped" | "empty":
                pass
            case _:
                raise ValueError(line)

    def _accept(self, text, **when):
        self.messages[text] = attrs.evolve(self.messages[text], **when)
        self._texts[self.messages[text].number] = text

    def _tell(self, at, text, how, sent_at, error):
        message = self.messages[text]
        told = (*message.told, (at, how))
        self.messages[text] = attrs.evolve(message, how=how, sent_at=sent_at, answered_at=at, told=told)
        if error:
            self.failed.append(f"{message}: {error}")


@attrs.frozen
class Received:
    """A row in a client's store. `seq` is 0 if it came directly, or with the answer to a Save."""

    seq: int
    kind: str
    sender: str
    id: bytes
    sent_at: float
    text: str | None
    hash: bytes
    shown: int


class Store:
    """What one client keeps: what it has received, in order, its history, its letters without a receipt, its outbox."""

    def __init__(self, folder, name):
        with closing(sqlite3.connect(f"file:{folder / name}.db?mode=ro", uri=True)) as database:
            rows = database.execute(
                "SELECT seq, kind, sender, id, sent_at, text, hash, shown FROM received ORDER BY number"
            )
            self.received = [Received(*row) for row in rows]
            self.history = Counter(database.execute("SELECT text, sent FROM history"))
            self.unsettled = dict(database.execute("SELECT hash, saved_at IS NOT NULL FROM sent"))
            """By the hashes of their texts: whether the server has said that it keeps them."""
            self.outgoing = [text for (text,) in database.execute("SELECT text FROM outgoing ORDER BY number")]
        self.by_key = {(row.kind, row.sender, row.id): row for row in self.received}
        self.texts = [row for row in self.received if row.kind in ("direct", "group")]
        self.receipts = [row for row in self.received if row.kind == "receipt"]
        self._by_hash = defaultdict(list)
        for row in self.texts:
            self._by_hash[row.sender, row.hash].append(row)

    def copies(self, message):
        """The rows of a message, also of those whose text is lost."""
        return self._by_hash.get((message.sender, hash_text(message.text)), [])


@attrs.frozen
class Logged:
    """A row of the server's log."""

    seq: int
    kind: str
    sender: str
    id: bytes
    recipient: str | None
    receipt: bytes | None
    kept: int
    size: int | None


@attrs.frozen
class Name:
    """A name in the server's store."""

    name: str
    key: bytes
    position: int
    letters: int
    bytes: int


class ServerStore:
    """The log and the names, as the server has left them."""

    def __init__(self, folder):
        with closing(sqlite3.connect(folder / "server.db")) as database:
            ((self.head, self.posts, self.bytes),) = database.execute(
                "SELECT head, posts, rooms.bytes FROM log JOIN rooms ON id = ''"
            )
            self.rows = [
                Logged(*row)
                for row in database.execute(
                    "SELECT seq, kind, sender, id, recipient, receipt, kept, length(body) FROM entries ORDER BY seq"
                )
            ]
            self.names = [
                Name(*row)
                for row in database.execute(
                    "SELECT name, signing, position, letters, bytes FROM names LEFT JOIN mailboxes USING (name)"
                )
            ]
            self.damaged = [
                *database.execute("SELECT * FROM damaged"),
                *database.execute("SELECT * FROM damaged_names"),
            ]
