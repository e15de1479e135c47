"""A server that lies: changed letters, receipts, posts and keys are noticed before anything is shown.

The lies are in what the server reads from its log, or in what it answers; the clients are real. A server that wants to
fill their memory is played by the test (client/raw_server.py). Virtual time (tests/stage.py); what is kept is counted.
"""

import attrs
import pytest
import trio

from tests.client.raw_server import EPOCH, RawServer, credentials_of, open_client
from tests.raw_peer import RawPeer
from tests.stage import SERVER, SERVER_IDENTITY, SERVER_KEY, SERVER_PEER, identity_of
from trio_chat.client import key_pins
from trio_chat.client.events import (
    ForgedReceiptReceived,
    GroupMessageReceived,
    KeyWarning,
    LetterReceived,
    LetterUnreadable,
    MessageNotDelivered,
    MessageNotOpened,
    MessageReceived,
    ReceiptReceived,
    SignedOff,
)
from trio_chat.client.opening import open_chat
from trio_chat.crypto.identities import Identity, credentials
from trio_chat.crypto.letters import sign_post
from trio_chat.crypto.receipts import NO_HASH, hash_text, sign_receipt
from trio_chat.errors import (
    ForgedReceipt,
    KeyChanged,
    KeyNotRemembered,
    NotOpened,
    ServerKeyChanged,
    TooManyPeople,
    UnknownRecipient,
    WrongReceipt,
    WrongServerKey,
)
from trio_chat.protocol import table
from trio_chat.protocol.log import Log, Page
from trio_chat.protocol.messages import DirectMessage, Find, Heartbeat, Register, TableChange, TableHeld
from trio_chat.protocol.parts import OutgoingRequest
from trio_chat.protocol.records import (
    EVERYONE,
    Credentials,
    Entry,
    EntryKind,
    PublicKeys,
    Reason,
    Record,
    Version,
    fingerprint,
)
from trio_chat.protocol.table import TABLE_PAGE
from trio_chat.protocol.wire import encode
from trio_chat.storage.interface import Appended, Status
from trio_chat.storage.server_log import LogTransaction
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.transport.ids import new_id

ALICE, BOB, MALLORY = identity_of("alice"), identity_of("bob"), identity_of("mallory")
HASHES = (hash_text("hi"), NO_HASH)
YEAR = 365 * 24 * 3600.0


class LyingStore(MemoryServerStore):
    """The store of a server that lies.

    `change` is applied to each entry when it is read, from the store or from memory, and `handed` has the results.
    `answer` may return what the server is told when it appends an entry, which then is not appended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.change = lambda entry: entry
        self.answer = lambda entry: None
        self.handed: list[Entry] = []

    async def append(self, entries):
        lies = [self.answer(entry) for entry in entries]
        return lies if all(lies) else await super().append(entries)

    async def read(self, name, after):
        return self.changed(await super().read(name, after))

    def changed(self, page: Page) -> Page:
        """What is handed over instead of this page."""
        entries = tuple(self.change(entry) for entry in page.entries)
        self.handed += entries
        return attrs.evolve(page, entries=entries)

    def slip_in(self, entry: Entry) -> None:
        """Append a forged entry."""
        transaction = LogTransaction(self._database)
        transaction.append([entry])
        self._on_appended(transaction.appended)

    async def letters(self, name: str) -> list[Entry]:
        """The letters that wait for a name."""
        page = await super().read(name, 0)
        return [entry for entry in page.entries if entry.kind == EntryKind.DIRECT]

    def give_key(self, name: str, given: Credentials | None) -> None:
        """Let a name have other credentials."""
        keys = (given.keys.signing, given.keys.link, given.certificate) if given else (None, None, None)
        self._database.execute("UPDATE names SET signing = ?, link = ?, certificate = ? WHERE name = ?", (*keys, name))


@pytest.fixture
async def lies(stage, monkeypatch):
    """Restart the server of the stage with a store that lies."""
    store, read = LyingStore(), Log.read
    monkeypatch.setattr(Log, "read", lambda log, *request: store.changed(read(log, *request)))
    await stage.kill_server()
    await stage.start_server(store)
    return store


def damaged(entry: Entry) -> Entry:
    if entry.kind != EntryKind.DIRECT:
        return entry
    return attrs.evolve(entry, body=entry.body[:-1] + bytes((entry.body[-1] ^ 1,)))


def kinds(person) -> list[type]:
    return kinds_of(person.received)


def kinds_of(shown) -> list[type]:
    return [type(event) for event in shown]


async def away(stage):
    """Alice, who is online, and Bob, who is not."""
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await bob.chat.deregister()
    await stage.pass_time(1)
    return alice, bob


# --- letters ---


async def test_the_server_holds_no_text_of_a_letter(stage, lies, autojump_clock):
    alice, bob = await away(stage)
    await alice.chat.send("bob", "a secret of some length")
    await bob.chat.register()
    await stage.pass_time(1)
    assert bob.texts() == ["a secret of some length"]
    assert lies.handed
    assert not any(b"secret" in entry.body for entry in lies.handed)


async def test_a_rewritten_letter_does_not_block_the_others_and_its_sender_is_informed(stage, lies, autojump_clock):
    alice, bob = await away(stage)
    deliveries = [await alice.chat.send("bob", text) for text in ("one", "two", "three")]
    second = (await lies.letters("bob"))[1].id
    lies.change = lambda entry: damaged(entry) if entry.id == second else entry
    await bob.chat.register()
    await stage.pass_time(2)
    assert kinds(bob) == [LetterReceived, LetterUnreadable, LetterReceived]
    assert bob.texts() == ["one", "three"]
    assert bob.received[1] == LetterUnreadable("alice")
    one, two, three = (delivery.sent_at for delivery in deliveries)
    assert alice.received == [ReceiptReceived("bob", one), MessageNotOpened("bob", two), ReceiptReceived("bob", three)]


@pytest.mark.parametrize("exchanged", ["id", "body", "sender"])
async def test_a_letter_with_the_id_or_name_of_another_one_is_not_shown(stage, lies, autojump_clock, exchanged):
    alice, bob = await away(stage)
    carol = await stage.enter("carol")
    await alice.chat.send("bob", "from alice")
    await carol.chat.send("bob", "from carol")
    first, second = await lies.letters("bob")
    swapped = {first.id: getattr(second, exchanged), second.id: getattr(first, exchanged)}
    lies.change = lambda entry: (
        attrs.evolve(entry, **{exchanged: swapped[entry.id]}) if entry.kind == EntryKind.DIRECT else entry
    )
    await bob.chat.register()
    await stage.pass_time(2)
    assert bob.texts() == []
    assert kinds(bob) == [LetterUnreadable] * 2
    assert ReceiptReceived not in kinds(alice) + kinds(carol)


async def test_garbage_with_the_id_of_a_letter_does_not_block_the_letter(stage, lies, autojump_clock):
    alice, bob = await away(stage)
    delivery = await alice.chat.send("bob", "the true one")
    (letter,) = await lies.letters("bob")
    lies.change = damaged
    await bob.chat.register()
    await stage.pass_time(1)
    assert bob.received == [LetterUnreadable("alice")]
    lies.change = lambda entry: entry
    lies.slip_in(letter)
    await stage.pass_time(30)
    assert bob.texts() == ["the true one"]
    assert alice.received == [MessageNotOpened("bob", delivery.sent_at)], "she was told, and may have sent it again"


async def test_a_letter_that_is_handed_over_again_is_shown_once(stage, lies, autojump_clock):
    alice, bob = await away(stage)
    delivery = await alice.chat.send("bob", "once")
    (letter,) = await lies.letters("bob")
    await bob.chat.register()
    for change in ({}, {"taken_at": 5.0}, {"sender": "ALICE"}):
        lies.slip_in(attrs.evolve(letter, **change))
        await stage.pass_time(1)
    assert bob.texts() == ["once"]
    assert alice.received == [ReceiptReceived("bob", delivery.sent_at)]


@pytest.mark.parametrize("change", [{"taken_at": 0.0}, {"taken_at": 50 * YEAR}, {"seq": 1}, {"seq": 2**53}])
async def test_wrong_dates_and_numbers_hide_nothing(stage, lies, autojump_clock, change):
    alice, bob = await away(stage)
    for text in ("one", "two"):
        await alice.chat.send("bob", text)
    lies.change = lambda entry: attrs.evolve(entry, **change)
    await bob.chat.register()
    await stage.pass_time(1)
    await alice.chat.send_all("three")
    await stage.pass_time(1)
    assert bob.texts() == ["one", "two", "three"]


async def test_letters_of_a_kind_that_they_are_not_are_not_shown(stage, lies, autojump_clock):
    alice, bob = await away(stage)
    await alice.chat.send("bob", "a letter")
    await alice.chat.send_all("a post")
    other = {EntryKind.DIRECT: EntryKind.GROUP, EntryKind.GROUP: EntryKind.DIRECT}
    lies.change = lambda entry: attrs.evolve(entry, kind=other.get(entry.kind, entry.kind))
    await bob.chat.register()
    await stage.pass_time(1)
    assert kinds(bob) == [LetterUnreadable] * 2
    assert ReceiptReceived not in kinds(alice)


async def test_an_unreadable_letter_to_somebody_who_is_online(stage, lies, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    stage.network.cut(alice.host, bob.host)
    lies.change = damaged
    with pytest.raises(NotOpened):
        await alice.chat.send("bob", "hi")
    await stage.pass_time(1)
    assert bob.received == [LetterUnreadable("alice")]
    assert alice.received == [], "it was the result of sending"


# --- receipts ---


def receipt_entry(id: bytes, body: bytes) -> Entry:
    return Entry(0, EntryKind.RECEIPT, id, "bob", BOB.public.signing, "alice", 5.0, body)


async def test_a_forged_receipt_is_reported_and_the_true_one_still_counts(stage, lies, autojump_clock):
    alice, bob = await away(stage)
    delivery = await alice.chat.send("bob", "hi")
    (letter,) = await lies.letters("bob")
    forged = [
        b"",
        bytes(96),
        *(sign_receipt(MALLORY, id=letter.id, sender="alice", text_hash=hash_) for hash_ in HASHES),
    ]
    for body in forged:
        lies.slip_in(receipt_entry(letter.id, body))
    await stage.pass_time(2)
    assert alice.received == [ForgedReceiptReceived("bob")] * 4
    await bob.chat.register()
    await stage.pass_time(2)
    assert alice.received[4:] == [ReceiptReceived("bob", delivery.sent_at)]


async def test_the_receipt_of_another_message_is_reported_as_forged(stage, lies, autojump_clock):
    alice, _ = await away(stage)
    for text in ("read", "not read"):
        await alice.chat.send("bob", text)
    first, second = await lies.letters("bob")
    signed = sign_receipt(BOB, id=first.id, sender="alice", text_hash=hash_text("read"))
    lies.slip_in(receipt_entry(second.id, signed))
    await stage.pass_time(2)
    assert alice.received == [ForgedReceiptReceived("bob")]


async def test_a_receipt_for_a_letter_that_was_never_sent_is_not_shown(stage, lies, autojump_clock):
    alice, _ = await away(stage)
    id_ = new_id()
    lies.slip_in(receipt_entry(id_, sign_receipt(BOB, id=id_, sender="alice", text_hash=hash_text("hi"))))
    lies.slip_in(attrs.evolve(receipt_entry(new_id(), b""), kind=EntryKind.FAILED))
    await stage.pass_time(2)
    assert alice.received == []


@pytest.mark.parametrize(
    ("shown", "error"),
    [
        ("nothing", ForgedReceipt),
        ("mallory's", ForgedReceipt),
        ("mallory's, not opened", ForgedReceipt),
        ("for another message", ForgedReceipt),
        ("not opened, for another message", ForgedReceipt),
        ("for another text", WrongReceipt),
        ("not opened", NotOpened),
    ],
)
async def test_the_server_alone_cannot_confirm_a_delivery(stage, lies, autojump_clock, shown, error):
    alice, _ = await away(stage)

    def receipt(letter):
        signed_by = MALLORY if "mallory" in shown else BOB
        id_ = new_id() if "another message" in shown else letter.id
        text = "ho" if "another text" in shown else "hi"
        text_hash = NO_HASH if "not opened" in shown else hash_text(text)
        return bytes(96) if shown == "nothing" else sign_receipt(signed_by, id=id_, sender="alice", text_hash=text_hash)

    lies.answer = lambda letter: Appended(Status.KNOWN, 1, receipt(letter))
    with pytest.raises(error):
        await alice.chat.send("bob", "hi")


# --- messages to everyone ---


async def test_forged_and_rewritten_posts_are_not_shown(stage, lies, autojump_clock):
    alice, bob = await away(stage)
    await alice.chat.send_all("lunch at noon")
    await alice.chat.send_all("tea at five")
    await stage.pass_time(1)
    lies.change = lambda entry: attrs.evolve(entry, body=entry.body.replace(b"noon", b"nine"))
    at = trio.current_time()
    for invented in (
        b"".join([bytes(64), bytes(8), b"I resign"]),
        sign_post(MALLORY, id=new_id(), sender="alice", sent_at=at, text="I resign"),
    ):
        for key in (ALICE, MALLORY):
            lies.slip_in(Entry(0, EntryKind.GROUP, new_id(), "alice", key.public.signing, EVERYONE, at, invented))
    await bob.chat.register()
    await stage.pass_time(2)
    assert bob.texts() == ["tea at five"]
    assert kinds(bob).count(LetterUnreadable) == 5


async def test_a_post_cannot_be_shown_under_the_name_of_another(stage, lies, autojump_clock):
    alice, bob = await stage.enter("alice"), await stage.enter("bob")
    await alice.chat.send_all("hello")
    await stage.pass_time(1)
    assert bob.received == [GroupMessageReceived("alice", "hello")]
    carol = await stage.enter("carol")
    await bob.chat.deregister()
    await stage.pass_time(1)
    await carol.chat.send_all("good bye")
    await stage.pass_time(1)
    lies.change = lambda entry: attrs.evolve(entry, sender="alice")
    await bob.chat.register()
    await stage.pass_time(1)
    assert bob.received[1:] == [LetterUnreadable("alice")]


# --- keys ---


async def give_another_key(stage, name: str, given: Credentials) -> None:
    """Stop the server, give a name another key, and start it again."""
    await stage.kill_server()
    stage.server_store.give_key(name, given)
    await stage.start_server()
    await stage.pass_time(25)


async def test_a_changed_key_causes_a_warning_and_nothing_is_sent_until_it_is_trusted(
    stage, lies, autojump_clock, nursery
):
    alice, bob = await away(stage)
    await bob.kill()
    old, new = fingerprint(BOB.public.signing), fingerprint(MALLORY.public.signing)
    await give_another_key(stage, "bob", credentials(MALLORY, name="bob", server_key=SERVER_KEY))
    assert alice.received == [], "he is away"
    with pytest.raises(KeyChanged):
        await alice.chat.send("bob", "a secret")
    await stage.pass_time(1)
    assert alice.received == [KeyWarning("bob", old, new)]
    assert alice.chat.untrusted == {"bob"}

    false_bob = await stage.enter("bob", identity=MALLORY)
    await stage.pass_time(1)
    with pytest.raises(KeyChanged) as caught:
        await alice.chat.send("bob", "a secret")
    assert (caught.value.name, caught.value.pinned, caught.value.offered) == ("bob", old, new)
    with pytest.raises(NotOpened):
        await false_bob.chat.send("alice", "I am bob")
    await false_bob.chat.send_all("I am bob")
    await stage.pass_time(1)
    assert false_bob.received == []
    assert alice.received[1:] == [LetterUnreadable("bob")] * 2, "and no second warning"

    assert await alice.chat.trust("BOB") == new
    assert alice.chat.untrusted == set()
    assert (await alice.chat.send("bob", "so be it")).how == "direct"
    assert (await false_bob.chat.send("alice", "thank you")).how == "direct", "as hers came directly"
    await stage.pass_time(1)
    assert alice.received[-1] == MessageReceived("bob", "thank you")


async def test_the_warning_comes_again_at_each_start_until_the_key_is_trusted(stage, lies, autojump_clock):
    alice, _ = await away(stage)
    await give_another_key(stage, "bob", credentials(MALLORY, name="bob", server_key=SERVER_KEY))
    for _ in range(2):
        await alice.kill()
        alice = await stage.enter("alice", store=alice.store)
        with pytest.raises(KeyChanged):
            await alice.chat.send("bob", "a secret")
        await stage.pass_time(1)
        assert kinds(alice) == [KeyWarning]
        assert [one.key_changed for one in await alice.chat.everybody()] == [False, True]
    await alice.chat.trust("bob")
    await alice.kill()
    alice = await stage.enter("alice", store=alice.store)
    await alice.chat.send("bob", "to the new key")
    await stage.pass_time(1)
    assert alice.received == []


@pytest.mark.parametrize("fault", ["a mixed pair of keys", "for another name", "for another server", "none"])
async def test_a_name_is_not_linked_to_keys_that_it_has_not_certified(stage, lies, autojump_clock, fault):
    alice, bob = await away(stage)
    true = credentials(BOB, name="bob", server_key=SERVER_KEY)
    given = {
        "a mixed pair of keys": attrs.evolve(true, keys=PublicKeys(BOB.public.signing, MALLORY.public.link)),
        "for another name": credentials(BOB, name="rob", server_key=SERVER_KEY),
        "for another server": credentials(BOB, name="bob", server_key=MALLORY.public.signing),
        "none": None,
    }[fault]
    await bob.kill()
    await give_another_key(stage, "bob", given)
    with pytest.raises(UnknownRecipient):
        await alice.chat.send("bob", "hi")
    if given is None:
        with pytest.raises(UnknownRecipient):
            await alice.chat.trust("bob")


async def test_a_name_that_the_operator_freed_goes_to_the_next_key_with_a_warning(stage, autojump_clock):
    alice, bob = await away(stage)
    delivery = await alice.chat.send("bob", "to the lost key")
    await bob.kill()
    await stage.kill_server()
    assert await stage.server_store.forget("BOB")
    assert not await stage.server_store.forget("nobody")
    await stage.start_server()
    await stage.pass_time(25)
    with pytest.raises(UnknownRecipient):
        await alice.chat.send("bob", "nobody has this name now")
    new = await stage.enter("bob", identity=Identity(b"n" * 32, b"N" * 32))
    await stage.pass_time(2)
    assert new.received == [], "it was not for them"
    assert sorted(map(repr, kinds(alice))) == sorted(map(repr, [KeyWarning, MessageNotDelivered]))
    assert MessageNotDelivered("bob", delivery.sent_at) in alice.received
    await alice.chat.trust("bob")
    assert (await alice.chat.send("bob", "to the new key")).how == "direct"


# --- the server's own key ---


async def another_server(stage, identity):
    await stage.kill_server()
    stage.identity = identity
    await stage.start_server(MemoryServerStore())


async def test_a_server_with_another_key_is_refused(stage, autojump_clock):
    alice = await stage.enter("alice")
    await alice.kill()
    await another_server(stage, MALLORY)
    with pytest.raises(ServerKeyChanged) as caught:
        async with open_chat("alice", SERVER, identity=ALICE, store=alice.store, network=stage.network):
            pass  # pragma: no cover
    assert caught.value.pinned == fingerprint(SERVER_KEY)
    assert caught.value.offered == fingerprint(MALLORY.public.signing)
    assert stage.changes == stage.changes[:1], "nobody registered with it"

    new = caught.value.offered
    own = {"identity": ALICE, "store": alice.store, "network": stage.network}
    async with open_chat("alice", SERVER, server_key=new, **own) as chat:
        assert chat.online, "with the new key required, it is accepted"
    async with open_chat("alice", SERVER, **own) as chat:
        assert chat.online, "and it is pinned from then on"


async def test_the_key_of_the_server_can_be_required_at_the_first_contact(stage, autojump_clock):
    alice = await stage.enter("alice")
    await alice.kill()
    own = {"identity": ALICE, "network": stage.network}
    # With no pinned key and with the right one: in both cases the wrong key is the one that was required.
    for store in (None, alice.store):
        with pytest.raises(WrongServerKey) as caught:
            async with open_chat("alice", SERVER, server_key="aaaa-bbbb-cccc-dddd", store=store, **own):
                pass  # pragma: no cover
        assert caught.value.expected == "aaaa-bbbb-cccc-dddd"
        assert caught.value.offered == fingerprint(SERVER_KEY)
    async with open_chat("alice", SERVER, server_key=fingerprint(SERVER_KEY), **own) as chat:
        assert chat.online


async def test_a_client_that_waits_for_its_server_refuses_another_one(stage, autojump_clock, nursery):
    caught = []

    async def patient():
        try:
            async with open_chat("alice", SERVER, reconnect=True, network=stage.network) as chat:
                await trio.sleep(30)
                await chat.send_all("hello")
        except ServerKeyChanged as error:
            caught.append(error)

    nursery.start_soon(patient)
    await stage.pass_time(10)
    await another_server(stage, MALLORY)
    await stage.pass_time(60)
    assert caught


@pytest.mark.parametrize("ask", ["send_all", "register", "block", "deregister"])
async def test_a_client_that_gives_up_its_server_says_if_another_one_has_taken_its_place(stage, autojump_clock, ask):
    alice, _ = await stage.enter("alice"), await stage.enter("bob")
    await stage.pass_time(1)
    await another_server(stage, MALLORY)
    words = {"send_all": ["hello"], "block": ["bob"]}.get(ask, [])
    with pytest.raises(ServerKeyChanged) as caught:
        await getattr(alice.chat, ask)(*words)
    assert caught.value.pinned == fingerprint(SERVER_KEY)
    assert caught.value.offered == fingerprint(MALLORY.public.signing)
    assert alice.chat._context.pins.server_key == SERVER_KEY, "it is not taken for ours"


class ImitatedKey:
    """Alice's X25519 key, as far as it can be imitated with the server's private key and Alice's public one."""

    def __init__(self) -> None:
        self._alice = ALICE.link.public_key()

    def public_key(self):
        return self._alice

    def exchange(self, other):
        is_server = other.public_bytes_raw() == SERVER_IDENTITY.public.link
        return SERVER_IDENTITY.link.exchange(self._alice if is_server else other)


@attrs.define
class ImitatedIdentity:
    """An identity for a RawPeer: the public keys are Alice's, the private ones are not."""

    link: ImitatedKey = attrs.Factory(ImitatedKey)
    signing: object = SERVER_IDENTITY.signing
    public: PublicKeys = ALICE.public


async def test_the_private_keys_of_the_server_are_not_enough_to_register_as_a_client(stage, autojump_clock, nursery):
    alice = await stage.enter("alice")
    server_owner, as_alice = RawPeer(stage.network, ("10.7.7.7", 7), SERVER_IDENTITY), None
    nursery.start_soon(server_owner.listen)
    as_alice = RawPeer(stage.network, ("10.7.7.7", 8), ImitatedIdentity())
    nursery.start_soon(as_alice.listen)
    own = alice.chat.table["alice"].credentials
    mixed = PublicKeys(ALICE.public.signing, SERVER_IDENTITY.public.link)
    for given in (
        own,
        credentials(SERVER_IDENTITY, name="alice", server_key=SERVER_KEY),
        Credentials(mixed, own.certificate),
    ):
        server_owner.send(SERVER_PEER, server_owner.register("alice", SERVER_KEY, credentials=given))
        as_alice.send(SERVER_PEER, as_alice.register("alice", SERVER_KEY, credentials=given))
        await stage.pass_time(1)
    assert [record.name for record in stage.changes] == ["alice"]
    assert alice.chat.online
    assert as_alice.received == []


# --- a server that wants to fill the memory of its clients ---

FAKE = Credentials(PublicKeys(b"k" * 32, b"l" * 32), bytes(64))


def invented(numbers) -> tuple[Record, ...]:
    """Rows of people whom the server has invented."""
    return tuple(Record(f"n{n}", "10.0.0.9", 9, online=False, since=1.0, credentials=FAKE) for n in numbers)


class InventingServer(RawServer):
    """A server that has one more page of rows, of `pages`, for each client that holds the one before.

    `promised`: the version that a client waits for when it registers.
    """

    def __init__(self, network) -> None:
        super().__init__(network, rows=("bob",))
        self.pages = iter(())
        self.promised = 1
        self.forgets = False
        self.answer = self._answer_and_invent
        self._held = 0

    def send(self, peer, message) -> None:
        for plaintext in OutgoingRequest(message.kind, message.id, encode(message)).datagrams:
            super().send(peer, plaintext)

    def _answer_and_invent(self, request):
        match request:
            case Register():
                self.client, self.name = self.received[-1][0], request.name
                self.send(self.client, request.registered(Version(EPOCH, self.promised), 1.0, 0, 0))
                return TableChange(new_id(), Version(EPOCH, 0), Version(EPOCH, 1), self._rows)
            case TableHeld(version=Version(n=n)):
                self._held = n
                return self._next_page()
            case Heartbeat() if self.forgets:
                return request.refused(Reason.NOT_REGISTERED)
            case Find(name=name):
                row = Record(name, "10.0.0.9", 9, False, 1.0, credentials_of(name))
                return request.found(row, Version(EPOCH, self._held))
        return self._answer(request)

    def _next_page(self):
        rows = next(self.pages, None)
        versions = Version(EPOCH, self._held), Version(EPOCH, self._held + 1)
        return None if rows is None else TableChange(new_id(), *versions, rows)

    async def send_pages(self, pages) -> None:
        """Send these pages, each when the client holds the one before."""
        await trio.sleep(1)  # until the client has said what it holds
        self.pages = iter(pages)
        if page := self._next_page():
            self.send(self.client, page)
        await trio.sleep(2)


@pytest.fixture
async def inventor(network, nursery, monkeypatch):
    monkeypatch.setattr(table, "MAX_ROWS", 200)
    monkeypatch.setattr(key_pins, "MAX_PINS", 100)
    monkeypatch.setattr(key_pins, "MAX_VERIFIED", 10)
    server = InventingServer(network)
    nursery.start_soon(server.listen)
    return server


def too_many_pages():
    return (invented(range(start, start + TABLE_PAGE)) for start in range(0, 20 * TABLE_PAGE, TABLE_PAGE))


async def test_a_table_that_is_too_long_ends_the_registration_and_then_nothing_grows(network, inventor, autojump_clock):
    async with open_client(network, "alice") as alice:
        await inventor.send_pages(too_many_pages())
        assert kinds_of(alice.shown) == [SignedOff]
        assert isinstance(alice.shown[0].error, TooManyPeople)
        assert not alice.chat.online
        known = len(alice.chat.table), alice.store.pin_count()
        assert known[0] <= 200
        await inventor.send_pages(too_many_pages())
        assert (len(alice.chat.table), alice.store.pin_count()) == known

        inventor.promised = 1_000_000
        inventor.pages = too_many_pages()
        with pytest.raises(TooManyPeople):
            await alice.chat.register()
        assert not alice.chat.online
        assert len(alice.chat.table) <= 200
        assert kinds_of(alice.shown) == [SignedOff], "who registers was told"

        inventor.promised, inventor.pages = inventor._held + 1, iter([invented([0])])
        await alice.chat.register()
        assert alice.chat.online, "with a server that has been set right"


async def test_a_table_that_is_too_long_ends_the_first_registration(network, inventor, autojump_clock):
    inventor.promised, inventor.pages = 1_000_000, too_many_pages()
    with pytest.raises(TooManyPeople):
        async with open_client(network, "alice"):
            pass  # pragma: no cover


async def test_a_table_that_is_too_long_ends_a_registration_that_nobody_has_asked_for(
    network, inventor, autojump_clock
):
    async with open_client(network, "alice") as alice:
        await trio.sleep(1)
        inventor.forgets, inventor.promised, inventor.pages = True, 1_000_000, too_many_pages()
        await trio.sleep(30)
        assert [type(event.error) for event in alice.shown] == [TooManyPeople]
        assert not alice.chat.online


async def test_a_table_that_is_too_long_does_not_grow_if_nobody_reads_that_it_is_too_long(
    network, inventor, autojump_clock
):
    async with open_client(network, "alice", listening=False, backlog=0) as alice:
        for _ in range(20):
            await inventor.send_pages(too_many_pages())
        assert len(alice.chat.table) <= 200
        assert alice.store.pin_count() <= 100


def come_and_go(count):
    """Pages of people of whom never more than one page is there."""
    for start in range(0, count * TABLE_PAGE, TABLE_PAGE):
        rows = invented(range(start, start + TABLE_PAGE))
        yield rows
        yield tuple(attrs.evolve(row, credentials=None, deleted=True) for row in rows)


async def test_people_who_come_and_go_do_not_push_out_the_keys_of_others_and_new_ones_have_to_be_trusted(
    network, inventor, autojump_clock, nursery
):
    carol = RawPeer(network, ("10.0.0.8", 8), identity_of("carol"))
    nursery.start_soon(carol.listen)
    row = Record("carol", "10.0.0.8", 8, online=True, since=1.0, credentials=credentials_of("carol"))
    async with open_client(network, "alice") as alice:
        await inventor.send_pages([*come_and_go(20), (row,)])
        assert alice.chat.online
        assert set(alice.chat.table) == {"bob", "carol"}
        assert alice.store.pin_count() == 100
        assert alice.store.pinned("bob") == BOB.public.signing
        carol.send(alice.peer, DirectMessage(new_id(), "carol", "alice", "hi"))
        await trio.sleep(1)
        assert alice.shown == []
        for name in ("carol", "somebody-else"):
            with pytest.raises(KeyNotRemembered, match=fingerprint(identity_of(name).public.signing)):
                await alice.chat.send(name, "hi")
        assert alice.store.pin_count() == 100

        await alice.chat.trust("carol")
        carol.send(alice.peer, DirectMessage(new_id(), "carol", "alice", "hi again"))
        await trio.sleep(1)
        assert alice.shown == [MessageReceived("carol", "hi again")]


async def test_the_keys_of_invented_senders_are_bounded(network, inventor, autojump_clock):
    names = [f"n{number}" for number in range(150)]
    async with open_client(network, "alice") as alice:
        for start in range(0, len(names), 50):
            some = names[start : start + 50]
            posts = [
                Entry(start + n, EntryKind.GROUP, new_id(), name, identity_of(name).public.signing, EVERYONE, 1.0)
                for n, name in enumerate(some, start=1)
            ]
            taken = await inventor.hand_over(*posts, senders=[(name, credentials_of(name)) for name in some])
            assert taken.count == 50
        assert alice.store.pin_count() == 100
        assert len(alice.chat._context.pins._verified) == 10
        assert kinds_of(alice.shown) == [LetterUnreadable] * 150


async def test_warnings_of_changed_keys_are_remembered_only_of_those_who_are_pinned(network, inventor, autojump_clock):
    other = attrs.evolve(FAKE, keys=PublicKeys(b"x" * 32, b"l" * 32))
    async with open_client(network, "alice") as alice:
        pages = [*come_and_go(20)]
        await inventor.send_pages(pages)
        await inventor.send_pages(
            [tuple(attrs.evolve(row, credentials=other) for row in rows) for rows in pages[::2][:3]]
        )
        warnings = alice.shown
        assert kinds_of(warnings) == [KeyWarning] * len(warnings)
        assert 0 < len(alice.chat._context.pins._warned) == len(warnings) <= alice.store.pin_count()
