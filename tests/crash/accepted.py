"""What the outboxes have promised: each message that was accepted arrives, once, in order, whoever was killed.

No kill is an excuse here, but for being told, or shown, something again. Checked from the logs and stores of the
clients; that a message is in its recipient's store, once, is counted in count.py.
"""

from collections import defaultdict
from itertools import pairwise

from trio_chat.crypto.receipts import hash_text


def faults_of_the_outboxes(logs, stores, is_killed_soon_after):
    """What is wrong with messages that were accepted. The function says whether a client was killed after a moment."""
    for name, log in logs.items():
        for text in stores[name].outgoing:
            yield "left in the outbox", f"of {name}: {text}"
        for what in log.failed:
            yield "failed", what
        accepted = [message for message in log.messages.values() if message.accepted_at is not None]
        for message in accepted:
            yield from _told(message, logs, is_killed_soon_after)
        for message in accepted:
            if message.is_promised:
                yield from _kept_by_all(message, logs, stores)
        for queue in _queues(accepted):
            yield from _order(queue, logs, stores)


def recipients(message, names):
    """The names to which it was sent."""
    return [message.recipient] if message.recipient else [name for name in names if name != message.sender]


def _told(message, logs, is_killed_soon_after):
    """Its sender is told once what has become of it, and again if they were killed before that was written.

    Not at all, if they were killed at the moment in which they would have been told, and it was written that they need
    not be told again. When that was, only those know who have shown the message.
    """
    if not message.told:
        shown = [min(logs[name].shown.get(message.text, [0.0])) for name in recipients(message, logs)]
        if not is_killed_soon_after(message.sender, message.accepted_at, max(message.accepted_at, *shown)):
            yield "never told", message
    for (before, state), (after, again) in pairwise(message.told):
        if not is_killed_soon_after(message.sender, before, after):
            yield "told twice", f"{state} at {before:.3f} and {again} at {after:.3f}: {message}"


def _kept_by_all(message, logs, stores):
    count = stores[message.sender].history[message.text, 1]
    if count != 1:
        yield "history of what was accepted", f"{message.sender} has {count} of {message}"
    for name in recipients(message, stores):
        if message.text not in logs[name].shown:
            yield "accepted, never shown", f"to {name}: {message}"
        elif stores[name].history[message.text, 0] != 1:
            yield "history of what was accepted", f"{name} has {stores[name].history[message.text, 0]} of {message}"
        for row in stores[name].copies(message):
            if row.text is None:
                yield "accepted, text lost", f"{name} keeps {row} of {message}"


def _queues(accepted):
    """The messages to each person, and those to everyone."""
    queues = defaultdict(list)
    for message in accepted:
        queues[message.recipient].append(message)
    return queues.values()


def _order(queue, logs, stores):
    """Who was accepted before another one was put comes before it. Of those put at the same time nobody knows."""
    for name in recipients(queue[0], stores):
        places = {row.hash: place for place, row in enumerate(stores[name].received)}
        kept = {message.text: places.get(hash_text(message.text)) for message in queue}
        shown = {message.text: min(logs[name].shown.get(message.text, [None])) for message in queue}
        for what, at in (("kept", kept), ("shown", shown)):
            for before, after in _inversions([message for message in queue if at[message.text] is not None], at):
                yield f"queue {what} out of order", f"by {name}: {after}, then {before}"


def _inversions(queue, at):
    """Each message that came too early, with the latest of those before it."""
    accepted = sorted(queue, key=lambda message: message.accepted_at)
    latest, count = None, 0
    for message in sorted(queue, key=lambda message: message.tried):
        while count < len(accepted) and accepted[count].accepted_at < message.tried:
            if latest is None or at[accepted[count].text] > at[latest.text]:
                latest = accepted[count]
            count += 1
        if latest is not None and at[latest.text] > at[message.text]:
            yield latest, message
