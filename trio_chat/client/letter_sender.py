"""Sending letters: messages to one person that go by the server, sealed, and what their recipients sign about them.

When a message goes this way is decided in chat.py. Receipts that come later are read in inbox.py.
"""

import attrs

from trio_chat import errors
from trio_chat.client.context import ClientContext
from trio_chat.client.events import Delivery
from trio_chat.client.inbox import ExpectedReceipt, Inbox
from trio_chat.client.registration import Registration
from trio_chat.crypto.letters import Unreadable, seal_letter
from trio_chat.crypto.receipts import Verdict, hash_text, read_receipt
from trio_chat.protocol import messages
from trio_chat.protocol.messages import Answer, DirectMessage, Refused
from trio_chat.protocol.records import EntryKind, PublicKeys, Reason, fold
from trio_chat.storage.sent_letters import SentLetter


def refusal(answer: Answer, recipient: str = "") -> errors.ChatError:
    """The error for a message that the server has refused."""
    match answer:
        case Refused(reason=Reason.UNKNOWN):
            return errors.UnknownRecipient(recipient)
        case Refused(reason=Reason.FULL):
            return errors.MailboxFull(recipient)
        case Refused(reason=Reason.TOO_FAST, after=after):
            return errors.TooFast(after)
        case Refused(reason=Reason.CONFLICT):
            return errors.IdInUse()
    return errors.ServerNotResponding()


@attrs.frozen(eq=False)
class LetterSender:
    """Seals messages of one person, and gives them to the server."""

    _context: ClientContext
    _registration: Registration
    _inbox: Inbox

    def letter(self, message: DirectMessage, keys: PublicKeys, at: float | None = None) -> SentLetter:
        """What is remembered of a message to somebody with these keys."""
        text_hash = hash_text(message.text)
        return SentLetter(message.id, message.recipient, keys.signing, text_hash, at or self._context.clock())

    def read(self, receipt: bytes, letter: SentLetter) -> Verdict:
        """What a receipt says about a message."""
        return read_receipt(receipt, letter.key, id=letter.id, sender=self._context.name, text_hash=letter.hash)

    async def send(
        self, message: DirectMessage, keys: PublicKeys, at: float | None = None, *, is_copy: bool = False
    ) -> Delivery:
        """Give a message to the server. `at`: when it was written; None is now. Raises what `Chat.send` raises.

        `is_copy`: the server may have it from an earlier attempt.
        """
        # The id of the direct message: its recipient may have got it after all, and must not show it twice.
        letter, own, to = self.letter(message, keys, at), self._context.identity, message.recipient
        try:
            body = seal_letter(
                own, keys, id=letter.id, sender=self._context.name, recipient=to, sent_at=letter.at, text=message.text
            )
        except Unreadable:
            raise errors.UnknownRecipient(to) from None
        before = self._context.store.newest_at_server(to)
        # On disk before the server has it: its receipt may come after a crash, and counts for this text only.
        await self._context.store.will_send(letter)
        with self._inbox.expect_receipt(letter) as expected:
            verdict = await self._save(letter, body, expected, is_copy)
            if verdict is None:
                return Delivery("saved", letter.at)
            if verdict is Verdict.FORGED:
                raise errors.ForgedReceipt(to)  # the true one may still come
            self._inbox.told(letter)
        match verdict:
            case Verdict.RECEIVED:
                # Also of what they have thrown away, and signed nothing for: they have been given all that was before.
                # Not with the receipt of an earlier attempt, and not if another one was saved while this one had no
                # answer (a crash test found that): what was saved since is still there.
                if not is_copy and self._context.store.newest_at_server(to) == before:
                    self._context.store.passed(to)
                return Delivery("relayed")
            case Verdict.NOT_OPENED:
                raise errors.NotOpened(to)
        raise errors.WrongReceipt(to)

    def received(self, id: bytes) -> None:
        """The recipient's program has this message directly: a receipt of an earlier attempt says nothing new."""
        if letter := self._context.store.sent(id):
            self._inbox.told(letter)

    async def _save(self, letter: SentLetter, body: bytes, expected: ExpectedReceipt, is_copy: bool) -> Verdict | None:
        """Give a letter to the server; return what its recipient has signed, or None if the server keeps it."""
        answer, to = None, letter.recipient
        try:
            with expected.until_it_comes:
                answer = await self._registration.ask(messages.Save(letter.id, to, body))
        except errors.ServerNotResponding:
            if expected.verdict is None:  # else the receipt has come at the very end of the last window
                raise
        if expected.verdict is not None:
            return expected.verdict
        match answer:
            # The server's answer proves nothing: the recipient signs that they have the letter, or cannot open it.
            case messages.Delivered(receipt=receipt):
                return self.read(receipt, letter)
            case messages.Saved() if not is_copy:
                self._context.store.saved(letter.id, self._context.clock())
                return None
            # Sealed twice, the same message looks like another one: the server has it, and may repeat what it answered
            # then, though the receipt has come since.
            case messages.Saved() | Refused(reason=Reason.CONFLICT) if is_copy:
                return self._verdict_before(letter)
            case Refused():
                self._context.store.settled(letter.id)
                raise refusal(answer, to)
        raise errors.ServerNotResponding

    def _verdict_before(self, letter: SentLetter) -> Verdict | None:
        store = self._context.store
        if store.seen((EntryKind.RECEIPT, fold(letter.recipient), letter.id)) is None:
            store.saved(letter.id, self._context.clock())
            return None
        # Its receipt has come, and was shown then.
        return Verdict.RECEIVED
