"""Checks a crash test: compares what was acknowledged, by the senders' logs, with the recipients' stores.

It reads files only. A fault is one line of text. Without faults nothing was lost, came twice or came out of order.
"""

import json
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from itertools import pairwise

import attrs

GRACE = 1.0
"""A client that is killed within so many seconds after it showed something may show it again: that it did is written
0.1 s later, and later on a busy machine. The simulation is stricter, as no machine makes it slow."""


@attrs.frozen
class Kill:
    """Whose process was killed, and between which moments (monotonic seconds): sending the signal takes some time."""

    name: str
    after: float
    before: float


@attrs.frozen
class Message:
    """What a client tried to send. `how` is the result, None if none came; `answered_at` is when it came."""

    sender: str
    text: str
    recipient: str | None
    tried: float
    how: str | None = None
    sent_at: float | None = None
    answered_at: float | None = None


class Log:
    """What one client did and showed, in all its runs."""

    def __init__(self, folder, name):
        self.messages: dict[str, Message] = {}
        self.shown: dict[str, list[float]] = defaultdict(list)
        self.receipts: dict[tuple[str, float], list[float]] = defaultdict(list)
        self.refused: Counter[str] = Counter()
        self.alarms: list[str] = []
        for line in (folder / f"{name}.log").read_text().splitlines():
            match json.loads(line):
                case at, "tries", text, recipient:
                    self.messages[text] = Message(name, text, recipient, at)
                case at, "sent", text, how, sent_at:
                    self.messages[text] = attrs.evolve(self.messages[text], how=how, sent_at=sent_at, answered_at=at)
                case at, "shows", text:
                    self.shown[text].append(at)
                case at, "receipt", recipient, sent_at:
                    self.receipts[recipient, sent_at].append(at)
                case _, "refused", why:
                    self.refused[why] += 1
                case at, "alarm", what:
                    self.alarms.append(f"{what} at {at:.3f}")


@attrs.frozen
class Row:
    """A letter in a client's store; the text is None if it was not from its sender, or could not be opened."""

    kind: str
    sender: str
    id: bytes
    sent_at: float
    text: str | None
    count: int


class Store:
    """What one client keeps: letters in the order in which they came, and the ids of all that it has received."""

    def __init__(self, folder, name):
        with closing(sqlite3.connect(f"file:{folder / name}.db?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT kind, sender, id, sent_at, text, count FROM letters ORDER BY number")
            self.letters = [Row(*row) for row in rows]
            self.seen = set(database.execute("SELECT kind, sender, id FROM seen"))
        self.texts = Counter(row.text for row in self.letters if row.kind in ("direct", "group"))
        self.receipts = defaultdict(list)
        for row in self.letters:
            if row.kind == "receipt":
                self.receipts[row.sender, row.sent_at].append(row.id)
        self.text_of = {row.id: row.text for row in self.letters if row.kind == "direct"}


@attrs.define
class Line:
    """One line of the table."""

    acknowledged: int = 0
    received: int = 0
    lost: int = 0
    twice: int = 0


class Count:
    """All that was acknowledged and received in one crash test. `faults`: what must not happen."""

    def __init__(self, folder, names, kills):
        self.faults: list[str] = []
        self.table: dict[str, Line] = defaultdict(Line)
        self.also: Counter[str] = Counter()
        self._kills = kills
        self._names = names
        self._logs = {name: Log(folder, name) for name in names}
        self._stores = {name: Store(folder, name) for name in names}
        self._missing_posts: dict[str, list[Message]] = defaultdict(list)
        self._messages = {text: message for log in self._logs.values() for text, message in log.messages.items()}
        for message in self._messages.values():
            self._count_message(message)
        for name in names:
            self._count_missed(name)
            self._count_shown(name)
            self._count_receipts(name)
            self._check_order(name)
            self._check_alarms(name)
        self._check_server(folder)

    def _fault(self, kind, what):
        self.also[kind] += 1
        self.faults.append(f"{kind}: {what}")

    def _killed_within(self, name, since, until):
        return any(kill.name == name and since <= kill.before and kill.after <= until for kill in self._kills)

    # --- messages ---

    def _count_message(self, message):
        if message.how is None:
            self.also["in doubt"] += 1
            return
        line = self.table[message.how]
        recipients = [message.recipient] if message.recipient else [n for n in self._names if n != message.sender]
        for name in recipients:
            line.acknowledged += 1
            copies = self._copies(message, name)
            line.received += copies > 0
            line.twice += copies > 1
            if copies > 1:
                self.faults.append(f"twice in the store of {name}: {message}")
            elif not copies and message.how == "posted":
                self._missing_posts[name].append(message)
            elif not copies and not self._died_with(message, name):
                line.lost += 1
                self.faults.append(f"lost to {name}: {message}")

    def _copies(self, message, name):
        """How often it is in the recipient's store. Of a direct message only the id is there, or it was shown."""
        store = self._stores[name]
        if copies := store.texts[message.text]:
            return copies
        if message.how == "saved":
            receipts = self._stores[message.sender].receipts[name, message.sent_at]
            return int(any(("direct", message.sender, id_) in store.seen for id_ in receipts))
        return int(message.how in ("direct", "relayed") and message.text in self._logs[name].shown)

    def _died_with(self, message, name):
        """Was it acknowledged by the recipient's program, which was killed before it could show it?"""
        return message.how == "direct" and self._killed_within(name, message.tried, message.answered_at + GRACE)

    def _count_missed(self, name):
        """Posts for a full mailbox are not lost if the recipient was told how many there were."""
        missing = self._missing_posts[name]
        reported = sum(row.count for row in self._stores[name].letters if row.kind == "missed")
        if len(missing) <= reported:
            self.also["posts for a full mailbox"] += len(missing)
        else:
            self.table["posted"].lost += len(missing) - reported
            self.faults += [f"lost to {name}, {reported} of these by a full mailbox: {message}" for message in missing]

    # --- what was shown ---

    def _count_shown(self, name):
        for text, times in self._logs[name].shown.items():
            if text not in self._messages:
                self._fault("never sent", f"{name} showed {text}")
            self._check_repeats(name, text, times)
        for row in self._stores[name].letters:
            if row.text and row.text not in self._messages:
                self._fault("never sent", f"{name} keeps {row}")
            elif row.text and row.text not in self._logs[name].shown:
                self._fault("never shown", f"{name} keeps {row}")

    def _check_repeats(self, name, what, times):
        for before, after in pairwise(times):
            if self._killed_within(name, before, min(after, before + GRACE)):
                self.also["shown again after a kill"] += 1
            else:
                self._fault("shown twice", f"{what} by {name} at {before:.3f} and {after:.3f}")

    # --- receipts ---

    def _count_receipts(self, name):
        line = self.table["receipts"]
        store, log = self._stores[name], self._logs[name]
        saved = {
            (message.recipient, message.sent_at): message for message in log.messages.values() if message.how == "saved"
        }
        for key, message in saved.items():
            receipts = store.receipts.get(key, [])
            line.acknowledged += 1
            line.received += len(receipts) > 0
            line.lost += not receipts
            line.twice += len(receipts) > 1
            if len(receipts) != 1:
                self.faults.append(f"{len(receipts)} receipts in the store of {name} for {message}")
        for key in store.receipts.keys() - saved.keys():
            self._check_stray(name, key, store.receipts[key])
        for key, times in log.receipts.items():
            self._check_repeats(name, f"receipt {key}", times)

    def _check_stray(self, name, key, ids):
        """A receipt for a message that is not known as saved: right if its sender got no result, else wrong."""
        text = self._stores[key[0]].text_of.get(ids[0])
        message = self._messages.get(text)
        if len(ids) > 1 or (message is not None and message.how is not None):
            self._fault("wrong receipt", f"{name} has {len(ids)} of {key} for {message}")
        else:
            self.also["receipts for what was in doubt"] += 1

    # --- order, alarms, and what is left at the server ---

    def _check_order(self, name):
        letters = [row for row in self._stores[name].letters if row.kind in ("direct", "group")]
        for before, after in pairwise(letters):
            if before.sent_at > after.sent_at:
                self._fault("out of order", f"at {name}: {before} and then {after}")

    def _check_alarms(self, name):
        """Nobody here forges or changes keys, or signs in twice. So each warning of that is wrong."""
        for alarm in self._logs[name].alarms:
            self._fault("false alarm", f"{name} was shown {alarm}")
        for row in self._stores[name].letters:
            if row.text is None or row.kind == "unreadable":
                self._fault("not opened", f"{name} keeps {row}")

    def _check_server(self, folder):
        with closing(sqlite3.connect(folder / "server.db")) as database:
            for table in ("letters", "posts"):
                for row in database.execute(f"SELECT * FROM {table}"):  # noqa: S608 - a constant
                    self._fault(f"left in the server's {table}", row)
            for row in database.execute("SELECT name, letters, bytes FROM names WHERE letters <> 0 OR bytes <> 0"):
                self._fault("not counted down", row)

    # --- printed ---

    def lines(self):
        """The table, and other counts."""
        yield f"{'':10}{'acknowledged':>14}{'received':>10}{'lost':>6}{'twice':>7}"
        for what in ("direct", "relayed", "saved", "posted", "receipts"):
            line = self.table[what]
            yield f"{what:10}{line.acknowledged:>14,}{line.received:>10,}{line.lost:>6}{line.twice:>7}"
        servers = sum(kill.name == "server" for kill in self._kills)
        yield f"killed: the server {servers} times, clients {len(self._kills) - servers} times"
        for log in self._logs.values():
            self.also += Counter({f"refused, {why}": count for why, count in log.refused.items()})
        yield "; ".join(f"{what}: {count:,}" for what, count in sorted(self.also.items()))
