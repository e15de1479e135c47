"""What the server's log must be when everybody has everything: gapless, handed over, with one receipt for each letter.

All checks are of files that nobody uses any more, and within the time for which everything is kept.
"""

from collections import Counter

from trio_chat.crypto.receipts import Verdict, read_receipt


def faults_of_the_log(server, stores):
    """What is wrong with the log in the server's store, and with its copies in the stores of the clients."""
    yield from _numbers(server, stores)
    yield from _counts(server)
    yield from _what_is_left(server)
    yield from _deliveries(server, stores)
    yield from _entries_of_clients(server, stores)


def _numbers(server, stores):
    """Letters and posts leave rows, receipts do not. So there are as many gaps as letters that were taken."""
    numbers = Counter(row.seq for row in server.rows)
    for seq, count in numbers.items():
        if count > 1 or not 1 <= seq <= server.head:
            yield "wrong number", f"{count} rows have {seq}; the head is {server.head}"
    gaps = server.head - len(numbers)
    taken = [row for row in server.rows if row.kind == "direct" and row.receipt is not None]
    if gaps != len(taken):
        yield "gaps", f"{gaps} numbers have no row, {len(taken)} letters were taken"
    for name, store in stores.items():
        for row in store.received:
            if row.seq > server.head:
                yield "head went back", f"{name} has {row}, the head is {server.head}"


def _counts(server):
    posts = [row for row in server.rows if row.recipient == "" and row.kept]
    counted = (len(posts), sum(row.size for row in posts))
    if (server.posts, server.bytes) != counted:
        yield "wrong count", f"of posts: {server.posts} with {server.bytes} bytes, but there are {counted}"
    for name in server.names:
        if name.letters or name.bytes:
            yield "not counted down", name
    for row in server.damaged:
        yield "damaged", row


def _what_is_left(server):
    """Nothing waits for anybody: no letter, no receipt, and nothing after their positions."""
    for row in server.rows:
        if row.kept and row.kind != "group":
            yield "left in the log", row
        if row.kind == "direct" and not row.receipt:
            yield "letter without a receipt", row
        if row.kind not in ("direct", "group"):
            yield "unexpected", row
    for name in server.names:
        if name.position > server.head:
            yield "position after the head", f"{name}, {server.head}"
        # What is written is the place of the last entry for this name: what is only for others moves nothing.
        behind = [row.seq for row in server.rows if row.seq > name.position and _is_for(row, name.name)]
        if behind:
            yield "position behind", f"{name} has no {behind} (of {server.head})"


def _is_for(row, name):
    return row.kept and (row.recipient == name or (row.kind == "group" and row.sender != name))


def _deliveries(server, stores):
    """What is in the log was received, with or without an answer to its sender, and signed for."""
    keys = {name.name: name.key for name in server.names}
    for row in server.rows:
        for name in [row.recipient] if row.kind == "direct" else stores.keys() - {row.sender}:
            copy = stores[name].by_key.get((row.kind, row.sender, row.id))
            if copy is None:
                yield "in the log, not received", f"by {name}: {row}"
            # A letter may have come directly before; a post cannot.
            elif copy.seq != row.seq and (copy.seq or row.kind == "group"):
                yield "wrong number", f"{name} has {copy} of {row}"
            elif row.kind == "direct" and row.receipt:
                verdict = read_receipt(row.receipt, keys[name], id=row.id, sender=row.sender, text_hash=copy.hash)
                if verdict is not Verdict.RECEIVED:
                    yield "wrong receipt", f"the server has a receipt of {name} that says {verdict}: {row}, {copy}"


def _entries_of_clients(server, stores):
    """What clients have with a number is that entry of the log, or a receipt, whose number nothing else has."""
    rows = {row.seq: row for row in server.rows}
    receipts = {}
    for name, store in stores.items():
        for one in store.received:
            if one.seq == 0:
                continue
            row = rows.get(one.seq)
            if one.kind == "receipt":
                if row is not None or one.seq in receipts:
                    yield "wrong number", f"{name} has {one}, but that is {row or receipts[one.seq]}"
                receipts[one.seq] = one
            elif row is None or (row.kind, row.sender, row.id) != (one.kind, one.sender, one.id):
                yield "wrong number", f"{name} has {one}, but that is {row}"
