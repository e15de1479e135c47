"""What operators decide, in each ServerStore: names that are freed, deleted or unused; bans; invitations.

The backends, and how a store is opened again, are in backends.py. The rest of the contract is in test_server_store.py.
"""

import sqlite3
from contextlib import asynccontextmanager, closing

import attrs
import pytest

from tests.storage.backends import backends, inline
from tests.storage.log_entries import PEOPLE, direct, key_of, post, read_all, record, register, take_all
from trio_chat.protocol.records import NAME_RETENTION, EntryKind
from trio_chat.storage import past_owners
from trio_chat.storage.interface import Acknowledged, Appended, Status
from trio_chat.storage.rules import Ban, BanKind, Invitation
from trio_chat.storage.server_memory import MemoryServerStore
from trio_chat.storage.server_store import open_server_store

BACKENDS = backends(MemoryServerStore, open_server_store)
FINGERPRINT = "aaaa-bbbb-cccc-dddd"
BOB = Ban(BanKind.NAME, "bob", "bob")
BOBS_KEY = Ban(BanKind.KEY, FINGERPRINT, "bob")
NETWORK = Ban(BanKind.ADDRESS, "10.0.0.0/8")
DAY = 24 * 3600.0


@pytest.fixture(params=BACKENDS.values(), ids=BACKENDS.keys())
def open_store(request, tmp_path):
    """`async with open_store() as store`, again and again. `store.told`: what `on_appended` was called with."""
    open_again = request.param(tmp_path)

    @asynccontextmanager
    async def open_and_load():
        async with open_again() as store:
            store.told = []
            await store.load(store.told.extend)
            yield store

    return open_and_load


@pytest.fixture
async def store(open_store):
    """A store that knows alice, bob and carol."""
    async with open_store() as store:
        await register(store, *PEOPLE)
        yield store


async def known(store):
    names, _ = await store.load(store.told.extend)
    return {one.record.name: one for one in names}


# --- names ---


async def test_a_freed_name_may_be_reserved_for_one_key(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        assert await store.forget("BOB", FINGERPRINT) is True
        assert await store.forget("mallory", FINGERPRINT) is False
    async with open_store() as store:
        names = await known(store)
        assert {name: one.reserved for name, one in names.items()} == {"alice": "", "bob": FINGERPRINT, "carol": ""}
        assert names["bob"].record.credentials is None
        await store.save_name(record("bob", owner="dave"))
    async with open_store() as store:
        assert (await known(store))["bob"].reserved == "", "it has an owner again"


async def test_a_reservation_ends_when_the_name_is_freed_again(store):
    await store.forget("bob", FINGERPRINT)
    await store.forget("bob")
    assert (await known(store))["bob"].reserved == ""


async def test_a_deleted_name_is_gone_and_what_waits_for_it_fails(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.append([direct(1, to="bob"), post(2, sender="carol"), direct(3, sender="carol", to="bob")])
        store.told.clear()
        assert await store.delete("BOB", 50.0) is True
        assert await store.delete("bob", 50.0) is False
        assert await store.delete("mallory", 50.0) is False
        assert [(one.kind, one.id[-1], one.sender, one.key, one.recipient, one.taken_at) for one in store.told] == [
            (EntryKind.FAILED, 1, "bob", key_of("bob"), "alice", 50.0),
            (EntryKind.FAILED, 3, "bob", key_of("bob"), "carol", 50.0),
        ]
    async with open_store() as store:
        assert list(await known(store)) == ["alice", "carol"]
        assert await read_all(store, "bob", 3) == []


async def test_a_deleted_name_that_is_registered_again_begins_at_the_head(store):
    await store.append([direct(1, to="bob"), post(2)])
    await store.delete("bob", 50.0)
    position = await store.save_name(record("bob", owner="dave"))
    assert (position.seq, position.waiting, position.head) == (3, 0, 3)
    (appended,) = await store.append([direct(4, to="bob")])
    assert appended == Appended(Status.NEW, 4), "its mailbox is empty"


async def test_the_new_owner_of_a_deleted_name_does_not_hear_of_the_letters_of_the_last_one(store):
    await store.append([direct(1, sender="bob", to="alice")])
    await store.delete("bob", 50.0)
    await store.save_name(record("bob", owner="dave"))
    await take_all(store, "alice", lambda letter: b"receipt")
    assert await read_all(store, "bob", 0) == []


async def test_a_letter_that_comes_too_late_for_a_deleted_name_is_not_kept(store):
    await store.delete("bob", 50.0)
    assert await store.append([direct(1, to="bob")]) == [Appended(Status.UNKNOWN)]
    assert await read_all(store, "bob", 0) == []


async def test_what_a_deleted_name_has_taken_can_be_acknowledged_late(store):
    await store.append([direct(1, to="bob"), direct(2, to="carol")])
    await store.delete("bob", 50.0)
    await store.acknowledge([Acknowledged("bob", 2, {1: b"r"}), Acknowledged("carol", 2, {2: b"r"})], 60.0)
    await store.advance({"bob": 2, "carol": 3})
    kinds = [(entry.kind, entry.id[-1]) for entry in await read_all(store, "alice", 0)]
    assert kinds == [("failed", 1), ("receipt", 2)]


async def test_a_copy_of_a_letter_that_failed_is_still_known(store):
    await store.append([direct(1, to="bob")])
    await store.delete("bob", 50.0)
    assert await store.append([direct(1, to="bob")]) == [Appended(Status.KNOWN, 1)]


# --- those who have lost their names ---


def kept(name, owner=None):
    return name, record(name, owner=owner).credentials


async def test_the_keys_of_past_owners_are_kept_while_what_they_have_sent_is_in_the_log(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        await store.append([post(1, sender="bob"), post(2, sender="carol"), post(3, sender="alice")])
        await store.delete("BOB", 150.0)
        await store.append([post(4, sender="carol")])
        await store.forget("carol")
        assert await store.past_owners() == [kept("bob")], "a name that is free has its last owner"
        await store.save_name(record("Carol", owner="mallory"))
    for before, expected in ((101.5, ["bob", "carol"]), (103.5, ["carol"]), (104.0, ["carol"]), (104.5, [])):
        async with open_store() as store:
            while await store.retain(before, 200.0):
                pass
            assert await store.past_owners() == [kept(name) for name in expected], before


async def test_who_comes_back_with_the_same_key_has_not_lost_the_name(store):
    await store.append([post(1, sender="bob")])
    await store.forget("bob")
    await store.save_name(record("Bob"))
    assert await store.past_owners() == []


async def test_of_a_name_whose_owner_nobody_knows_nothing_is_kept(open_store):
    async with open_store() as store:
        await store.save_name(attrs.evolve(record("bob"), credentials=None))
        await store.append([post(1)])
        await store.delete("bob", 50.0)
        assert await store.past_owners() == []
        assert store.damaged == 0


async def test_each_key_that_has_lost_a_name_is_kept_once(store):
    await store.append([post(1)])
    for name, owner in (("BOB", None), ("bob", "mallory"), ("carol", None), ("Bob", None)):
        await store.save_name(record(name, owner=owner))
        await store.delete(name, 50.0)
    assert await store.past_owners() == [kept("bob", "mallory"), kept("carol"), kept("Bob")]


async def test_of_too_many_past_owners_the_oldest_are_dropped(store, monkeypatch):
    monkeypatch.setattr(past_owners, "MAX_PAST_OWNERS", 3)
    await store.append([post(1)])
    for name in ("n1", "n2", "n3", "n4", "n2"):
        await store.save_name(record(name))
        await store.delete(name, 50.0)
    assert await store.past_owners() == [kept("n3"), kept("n4"), kept("n2")]


async def test_the_last_owner_of_a_free_name_that_is_deleted_is_a_past_owner(store):
    await store.append([post(1, sender="bob")])
    await store.forget("bob")
    await store.delete("bob", 50.0)
    assert await store.past_owners() == [kept("bob")]


async def test_no_clock_decides_for_how_long_a_past_owner_is_kept(store):
    await store.append([post(1, sender="bob")])
    await store.delete("bob", 5e9)
    await store.date_forward(1e6, 2e6)
    await store.retain(1e6, 2e6)
    assert await store.past_owners() == [kept("bob")]


# --- names that nobody uses ---


async def test_who_was_not_online_for_long_is_unused(open_store):
    async with open_store() as store:
        await register(store, *PEOPLE)
        assert await store.unused([], 0.0, 10 * DAY) == [], "the time begins at the first look"
    async with open_store() as store:
        assert await store.unused(["CAROL"], 10 * DAY, 60 * DAY) == [], "not before"
        assert await store.unused([], 11 * DAY, 70 * DAY) == ["alice", "bob"]
        assert await store.unused([], 61 * DAY, 80 * DAY) == ["alice", "bob", "carol"]


async def test_who_has_registered_since_the_last_look_was_online_at_this_one(store):
    await store.unused([], 0.0, 10 * DAY)
    await store.save_name(record("Bob"))
    assert await store.unused([], 20 * DAY, 60 * DAY) == ["alice", "carol"]
    assert await store.unused([], 60 * DAY, 90 * DAY) == ["alice", "carol"]
    assert await store.unused([], 61 * DAY, 90 * DAY) == ["alice", "carol", "Bob"]


async def test_a_name_for_which_a_letter_waits_is_not_unused(store):
    await store.unused([], 0.0, 10 * DAY)
    await store.append([direct(1, to="bob"), post(2)])
    assert await store.unused([], 20 * DAY, 60 * DAY) == ["alice", "carol"]


async def test_a_wrong_clock_makes_no_name_unused(store):
    await store.unused([], 0.0, 100.0)  # in 1970
    await store.date_forward(1000 * DAY, 1030 * DAY)
    assert await store.unused([], 1030 * DAY - NAME_RETENTION, 1030 * DAY) == []
    await store.unused(["alice"], 0.0, 5000 * DAY)  # it was set too far
    assert await store.unused([], 0.0, 1040 * DAY) == []
    assert "alice" in await store.unused([], 1041 * DAY, 1050 * DAY), "seen at 1040"


# --- bans and invitations ---


async def test_bans_are_kept_until_they_are_lifted(open_store):
    async with open_store() as store:
        assert await store.rules() == ([], [])
        await store.ban([BOB, BOBS_KEY, NETWORK])
        await store.ban([attrs.evolve(BOBS_KEY, name="")])
    async with open_store() as store:
        bans, _ = await store.rules()
        assert sorted(bans, key=str) == sorted([BOB, attrs.evolve(BOBS_KEY, name=""), NETWORK], key=str)
        await store.unban([BOB, NETWORK, Ban(BanKind.NAME, "carol")])
    async with open_store() as store:
        assert await store.rules() == ([attrs.evolve(BOBS_KEY, name="")], [])


def invitation(number: int, until: float = 100.0) -> Invitation:
    return Invitation(bytes([number]) * 32, until, "dave" if number % 2 else "")


async def test_an_invitation_is_gone_with_the_name_that_used_it(open_store):
    async with open_store() as store:
        for number in (1, 2, 3):
            await store.invite(invitation(number), 5.0)
    async with open_store() as store:
        assert await store.rules() == ([], [invitation(1), invitation(2), invitation(3)])
        await store.save_name(record("dave"), invitation(2).hash)
        await store.save_name(record("eve"))
    async with open_store() as store:
        assert await store.rules() == ([], [invitation(1), invitation(3)])
        assert list(await known(store)) == ["dave", "eve"]


async def test_invitations_that_are_too_old_are_dropped(store):
    await store.invite(invitation(1, until=10.0), 5.0)
    await store.invite(invitation(2, until=11.0), 10.0)
    assert await store.rules() == ([], [invitation(1, until=10.0), invitation(2, until=11.0)])
    await store.invite(invitation(3), 10.5)
    assert await store.rules() == ([], [invitation(2, until=11.0), invitation(3)])


# --- in a file ---


async def test_the_name_and_the_end_of_its_invitation_are_one_transaction(tmp_path):
    path = tmp_path / "store.db"
    async with open_server_store(path, inline) as store:
        await store.load(lambda entries: None)
        await store.invite(invitation(1), 5.0)
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON names BEGIN SELECT RAISE(ABORT, 'no room'); END")
        database.commit()
    async with open_server_store(path, inline) as store:
        with pytest.raises(sqlite3.IntegrityError):
            await store.save_name(record("dave"), invitation(1).hash)
        assert await store.rules() == ([], [invitation(1)])


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE bans SET kind = 'planet' WHERE value = 'bob'",
        "UPDATE bans SET value = x'00ff' WHERE value = 'bob'",
        "UPDATE bans SET name = NULL WHERE value = 'bob'",
        "UPDATE invitations SET hash = 'short' WHERE hash = x'" + "01" * 32 + "'",
        "UPDATE invitations SET until = 'never' WHERE hash = x'" + "01" * 32 + "'",
    ],
)
async def test_a_damaged_row_does_not_keep_the_server_from_starting(tmp_path, damage):
    path = tmp_path / "store.db"
    async with open_server_store(path, inline) as store:
        await store.load(lambda entries: None)
        await store.ban([BOB, NETWORK])
        await store.invite(invitation(1), 5.0)
        await store.invite(invitation(2), 5.0)
    with closing(sqlite3.connect(path)) as database:
        database.execute(damage)
        database.commit()
    async with open_server_store(path, inline) as store:
        bans, invitations = await store.rules()
        assert NETWORK in bans
        assert invitation(2) in invitations
        assert (len(bans), len(invitations)) in ((1, 2), (2, 1))
        assert store.damaged == 1


async def test_a_damaged_reservation_gives_the_name_to_nobody_else(tmp_path):
    path = tmp_path / "store.db"
    async with open_server_store(path, inline) as store:
        await store.load(lambda entries: None)
        await register(store, *PEOPLE)
        await store.forget("bob", FINGERPRINT)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE names SET reserved = x'ff' WHERE name = 'bob'")
        database.commit()
    async with open_server_store(path, inline) as store:
        names, _ = await store.load(lambda entries: None)
        (bob,) = [one for one in names if one.record.name == "bob"]
        assert bob.reserved not in ("", FINGERPRINT)
