"""Checks a crash test: compares what was acknowledged, by the senders' logs, with the recipients' stores.

A fault is one line of text. Without faults nothing was lost, came twice or came out of order. What is read is in
files.py; what else the outboxes promise is checked in accepted.py, what the server's log must be in server_log.py.
"""

import math
from bisect import bisect
from collections import Counter, defaultdict
from itertools import pairwise

import attrs

from tests.crash.accepted import faults_of_the_outboxes, recipients
from tests.crash.files import OUTBOX, Log, ServerStore, Store
from tests.crash.server_log import faults_of_the_log
from trio_chat.crypto.receipts import NO_HASH, Verdict, hash_text
from trio_chat.transport.windows import ACK_WINDOW

GRACE = 10
"""A client that is killed within so many of its ticks after it showed something may show it again: that it did is
written one tick later, when the disk has taken what comes before it. A tick is 0.1 s, and longer on a busy machine. The
simulation is stricter, as no machine makes it slow."""

_KEPT = ("received", "relayed", "saved", "posted", "not told", "failed")
LINES = ("direct", "relayed", "saved", "posted", "receipts", *(OUTBOX + how for how in _KEPT))
"""The table: messages that were sent at once, their receipts, and messages that went by the outbox."""


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
        self._missing_posts: Counter[str] = Counter()
        self._messages = {text: message for log in self._logs.values() for text, message in log.messages.items()}
        self._by_hash = {hash_text(text): message for text, message in self._messages.items()}
        for message in self._messages.values():
            self._count_message(message)
        for name in names:
            self._count_missed(name)
            self._count_shown(name)
            self._count_receipts(name)
            self._check_history(name)
            self._check_order(name)
            self._check_alarms(name)
        for kind, what in faults_of_the_outboxes(self._logs, self._stores, self._killed_soon_after):
            self._fault(kind, what)
        for kind, what in faults_of_the_log(ServerStore(folder), self._stores):
            self._fault(kind, what)

    def _fault(self, kind, what):
        self.also[kind] += 1
        self.faults.append(f"{kind}: {what}")

    def _killed_within(self, name, since, until):
        return any(kill.name == name and since <= kill.before and kill.after <= until for kill in self._kills)

    def _soon_after(self, name, at):
        """When GRACE has passed at this client."""
        ticks = self._logs[name].ticks
        place = bisect(ticks, at) + GRACE
        return ticks[place] if place < len(ticks) else math.inf

    def _killed_soon_after(self, name, since, at=None):
        """Was this client killed after `since`, and before GRACE had passed after `at`? None: the same moment."""
        return self._killed_within(name, since, self._soon_after(name, since if at is None else at))

    def _killed_after_one_of(self, name, times):
        return any(self._killed_soon_after(name, at) for at in times)

    # --- messages ---

    def _count_message(self, message):
        if message.how is None and not message.is_promised:
            self.also["in doubt"] += 1
            return
        line = self.table[message.how or f"{OUTBOX}not told"]
        for name in recipients(message, self._names):
            line.acknowledged += 1
            copies = self._stores[name].copies(message)
            line.received += len(copies) > 0
            line.twice += len(copies) > 1
            if len(copies) > 1:
                self.faults.append(f"twice in the store of {name}: {message}")
            elif not copies and message.how == "posted":
                self._missing_posts[name] += 1
                self.faults.append(f"missing at {name}: {message}")
            elif not copies and self._died_with(message, name):
                is_shown = message.text in self._logs[name].shown
                self.also["direct, killed before it was " + ("kept" if is_shown else "shown")] += 1
            elif not copies and message.how != f"{OUTBOX}failed":
                line.lost += 1
                self.faults.append(f"lost to {name}: {message}")
            if message.how == f"{OUTBOX}received" and self._killed_soon_after(name, message.tried, message.told[0][0]):
                self.also["outbox: received, and killed before it was kept"] += 1

    def _died_with(self, message, name):
        """Was it acknowledged directly by the recipient's program, which was killed before that was on the disk?"""
        return message.how == "direct" and self._killed_soon_after(name, message.tried, message.answered_at)

    def _count_missed(self, name):
        """Far fewer posts are sent than the server keeps: a notice that some were missed is wrong."""
        self.table["posted"].lost += self._missing_posts[name]
        if missed := self._logs[name].missed:
            self._fault("missed", f"{name} was told that {missed} posts are no longer kept")

    # --- what was shown ---

    def _count_shown(self, name):
        store, log = self._stores[name], self._logs[name]
        for text, times in log.shown.items():
            if text not in self._messages:
                self._fault("never sent", f"{name} showed {text}")
            self._check_repeats(name, text, times)
        for row in store.received:
            if not row.shown:
                self._fault("left unshown", f"{name} keeps {row}")
        for row in store.texts:
            self._check_row(name, row)

    def _check_row(self, name, row):
        message = self._by_hash.get(row.hash)
        if row.hash == NO_HASH:
            self._fault("not opened", f"{name} keeps {row}")
        elif message is None or message.sender != row.sender or message.recipient not in (name, None):
            self._fault("never sent", f"{name} keeps {row}")
        elif row.text not in (message.text, None):
            self._fault("another text", f"{name} keeps {row} of {message}")
        elif message.text not in self._logs[name].shown:
            # It came directly, and is in the history. One that came by the server is shown at the next start.
            is_direct = row.seq == 0 and message.how in ("direct", None)
            if is_direct and self._killed_soon_after(name, message.tried, message.tried + ACK_WINDOW):
                self.also["noted, never shown, killed"] += 1
            else:
                self._fault("never shown", f"{name} keeps {row} of {message}")
        elif row.text is None and not self._killed_after_one_of(name, self._logs[name].shown[message.text]):
            self._fault("text lost", f"{name} keeps {row} of {message}")

    def _check_repeats(self, name, what, times):
        for before, after in pairwise(times):
            if self._killed_within(name, before, min(after, self._soon_after(name, before))):
                self.also["shown again after a kill"] += 1
            else:
                self._fault("shown twice", f"{what} by {name} at {before:.3f} and {after:.3f}")

    # --- receipts ---

    def _count_receipts(self, name):
        """Each letter has one receipt. That of a saved one is shown; that of a relayed one was the answer."""
        line, log = self.table["receipts"], self._logs[name]
        receipts = defaultdict(list)
        for row in self._stores[name].receipts:
            message = self._letter_of(name, row)
            if message is None or message.sender != name or message.recipient != row.sender:
                self._fault("wrong receipt", f"{name} has {row} for {message}")
            else:
                receipts[message.text].append(row)
        for message in log.messages.values():
            rows = receipts.pop(message.text, [])
            if message.how == "saved":
                line.acknowledged += 1
                line.received += len(rows) > 0
                line.lost += not rows
                line.twice += len(rows) > 1
                self._check_saved(name, message, rows)
            elif message.how == "relayed":
                self._check_relayed(name, message, rows)
            elif message.is_promised:
                self._check_receipts_of_promised(name, message, rows)
            elif message.how is None:
                self.also["receipts for what was in doubt"] += len(rows) > 0
            elif rows:
                self._fault("wrong receipt", f"{name} has {rows} for {message}")
        self._check_shown_receipts(name)

    def _letter_of(self, name, receipt):
        """The message that a receipt is about, which its reader has under the same id."""
        store = self._stores.get(receipt.sender)
        row = store and store.by_key.get(("direct", name, receipt.id))
        return row and self._by_hash.get(row.hash)

    def _check_saved(self, name, message, rows):
        shown = self._logs[name].receipts.get((message.recipient, message.sent_at), [])
        right = [row for row in rows if (row.text, row.sent_at) == (Verdict.RECEIVED, message.sent_at) and row.seq > 0]
        if len(right) != 1 or len(rows) != 1:
            self.faults.append(f"{rows} are the receipts in the store of {name} for {message}")
        if not shown:
            self._fault("receipt never shown", f"to {name} for {message}")
        self._check_settled(name, message, max(shown, default=message.answered_at))

    def _check_relayed(self, name, message, rows):
        """Its receipt may be shown once more if the program was killed before it was written that its user knows it."""
        self._check_settled(name, message, message.answered_at)
        if self._killed_soon_after(name, message.tried, message.answered_at):
            return
        if len(rows) != 1:
            self._fault("receipts of a relayed message", f"{name} has {rows} for {message}")
        elif self._logs[name].receipts.get((message.recipient, rows[0].sent_at)):
            self._fault("receipt shown", f"to {name} for {message}")

    def _check_receipts_of_promised(self, name, message, rows):
        """It may have gone by the server whatever its sender was told first, and was told when that was repeated."""
        shown = self._logs[name].receipts.get((message.recipient, message.put_at), [])
        was_saved = [state for _, state in message.told] == [f"{OUTBOX}saved"]
        # That of a relayed one, which was the answer, has neither a place nor a time.
        came = [row for row in rows if row.seq]
        if any((row.text, row.sent_at) != (Verdict.RECEIVED, message.put_at) for row in came):
            self._fault("wrong receipt", f"{name} has {rows} for {message}")
        elif was_saved and not (came and shown):
            self._fault("receipt never shown", f"to {name}, who has {rows}, for {message}")
        # Of one that the server has not taken, as far as its sender knows, nothing comes: it may have gone directly.
        if self._stores[name].unsettled.get(hash_text(message.text)):
            self._check_settled(name, message, max(shown, default=message.accepted_at))

    def _check_settled(self, name, message, known_at):
        """A letter does not wait for its receipt any more, unless a kill came before that was written."""
        if hash_text(message.text) not in self._stores[name].unsettled:
            return
        if self._killed_soon_after(name, message.answered_at or message.accepted_at, known_at):
            self.also["not settled, killed"] += 1
        else:
            self._fault("not settled", f"by {name}: {message}")

    def _check_shown_receipts(self, name):
        kept = {(row.sender, row.sent_at) for row in self._stores[name].receipts}
        for key, times in self._logs[name].receipts.items():
            self._check_repeats(name, f"receipt {key}", times)
            if key not in kept:
                self._fault("wrong receipt", f"{name} was shown {key}, and has it not")

    # --- history, order, alarms ---

    def _check_history(self, name):
        history = self._stores[name].history
        for (text, sent), count in history.items():
            if count > 1:
                self._fault("twice in the history", f"of {name} ({sent=}): {text}")
        for message in self._logs[name].messages.values():
            if message.accepted_at is not None:
                continue  # checked more strictly in accepted.py
            is_missing = message.how is not None and not history[message.text, 1]
            if is_missing and not self._killed_soon_after(name, message.answered_at):
                self._fault("not in the history", f"of {name}: {message}")
        for text, times in self._logs[name].shown.items():
            if not history[text, 0] and not self._killed_after_one_of(name, times):
                self._fault("not in the history", f"of {name}: {text}")

    def _check_order(self, name):
        """Entries are kept and shown in the order of the log."""
        store = self._stores[name]
        for before, after in pairwise(row for row in store.received if row.seq > 0 and self._is_in_order(name, row)):
            if before.seq >= after.seq:
                self._fault("kept out of order", f"at {name}: {before} and then {after}")
        places = {row.text: row.seq for row in store.texts if row.seq > 0}
        for texts in self._logs[name].entries:
            for before, after in pairwise(text for text in texts if text in places):
                if places[before] >= places[after]:
                    self._fault("shown out of order", f"at {name}: {before} and then {after}")

    def _is_in_order(self, name, row):
        """All but a receipt that was the answer to a Save. It is passed over, and no longer so after a kill."""
        if row.kind != "receipt":
            return True
        message = self._letter_of(name, row)
        return message is not None and message.how == "saved"

    def _check_alarms(self, name):
        """Nobody here forges or changes keys, or signs in twice. So each warning of that is wrong."""
        for alarm in self._logs[name].alarms:
            self._fault("false alarm", f"{name} was shown {alarm}")
        for row in self._stores[name].received:
            if row.kind not in ("direct", "group", "receipt"):
                self._fault("false alarm", f"{name} keeps {row}")

    # --- printed ---

    def lines(self):
        """The table, and other counts."""
        yield f"{'':16}{'acknowledged':>14}{'received':>10}{'lost':>6}{'twice':>7}"
        for what in LINES:
            line = self.table[what]
            yield f"{what:16}{line.acknowledged:>14,}{line.received:>10,}{line.lost:>6}{line.twice:>7}"
        servers = sum(kill.name == "server" for kill in self._kills)
        yield f"killed: the server {servers} times, clients {len(self._kills) - servers} times"
        for log in self._logs.values():
            self.also += Counter({f"refused, {why}": count for why, count in log.refused.items()})
            self.also += Counter({f"waited, {why}": count for why, count in log.waited.items()})
        yield "; ".join(f"{what}: {count:,}" for what, count in sorted(self.also.items()))
