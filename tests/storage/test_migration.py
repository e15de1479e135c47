"""Files of earlier versions of the server's store lose nothing when they become one log, and then
rooms.

They were made by the code of their time; what is in them is told in fixtures/README.md. Each test works on a copy.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from tests.stage import SERVER_KEY, identity_of
from tests.storage.backends import inline, put_file
from tests.storage.log_entries import direct, read_all
from trio_chat.crypto.identities import sign_identity
from trio_chat.crypto.room_keys import sign_epoch
from trio_chat.errors import StoreError
from trio_chat.protocol.limits import LIMITS
from trio_chat.protocol.records import EVERYONE, NO_KEY, Credentials, Entry, EntryKind, Record, room_id
from trio_chat.storage import server_log
from trio_chat.storage.database import open_database
from trio_chat.storage.interface import Acknowledged, Appended, Position, Status
from trio_chat.storage.rules import Ban, BanKind, Invitation
from trio_chat.storage.server_schema import SERVER_SCHEMA
from trio_chat.storage.server_store import open_server_store

FIXTURES = Path(__file__).parent / "fixtures"
START = 1_700_000_000.0
FAILURE = "; DROP TABLE no_such_table"


def id_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


def key_of(name: str) -> bytes:
    return identity_of(name).public.signing


@pytest.fixture
def migrate(tmp_path):
    """`migrate(file)` is the path of a copy, not yet brought up to date."""

    def copy(file: str) -> Path:
        return put_file(tmp_path / "store.db", (FIXTURES / file).read_bytes())

    return copy


def rows(file: str, query: str) -> list[tuple]:
    """What the old file says."""
    with closing(sqlite3.connect(f"{(FIXTURES / file).as_uri()}?mode=ro&immutable=1", uri=True)) as database:
        return database.execute(query).fetchall()


def same_owner(name: str, names: list) -> Record:
    """The name registers again, with the credentials that are known for it."""
    (known,) = [one for one in names if one.record.name == name]
    return known.record


def numbers(entries: list[Entry]) -> list[tuple[str, int]]:
    return [(entry.kind, int.from_bytes(entry.id, "big")) for entry in entries]


def letters(*ids: int) -> list[tuple[str, int]]:
    return [("direct", id_) for id_ in ids]


def posts(*ids: int) -> list[tuple[str, int]]:
    return [("group", id_) for id_ in ids]


LUNCH = room_id(key_of("ann"), id_of(60))
DEN = room_id(key_of("ann"), id_of(80), private=True)


# --- schema 6 ---


async def test_nobody_is_known_to_be_online_in_a_file_that_did_not_note_it(migrate):
    path = migrate("server-6.db")
    async with open_server_store(path, inline) as store:
        names, head = await store.load(lambda entries: None)
        assert (head, store.damaged) == (67, 0)
        assert await store.online() == []
        ann = attrs.evolve(same_owner("ann", names), online=True)
        assert (await store.save_name(ann)).rooms.keys() == {LUNCH, DEN}
    async with open_server_store(path, inline) as store:
        assert await store.online() == [("ann", ann.address)]


# --- schema 5 ---


async def test_rooms_stay_open_and_as_they_were(migrate):
    path = migrate("server-5.db")
    async with open_server_store(path, inline) as store:
        names, head = await store.load(lambda entries: None)
        assert (head, store.damaged) == (65, 0)
        assert [name for _, name in await store.rooms()] == ["everyone", "Lunch", "Work"]
        assert await store.list_members(LUNCH, "", 9) == ["ann", "nia"]
        position = await store.save_name(same_owner("nia", names))
        assert (position.seq, position.rooms) == (47, {LUNCH: 57})
        entries = [one for one in await read_all(store, "nia", 56) if one.recipient == LUNCH or one.kind == "missed"]
        assert [(one.kind, one.seq, one.body) for one in entries] == [
            ("missed", 62, f"1 {LUNCH}".encode()),
            ("group", 64, b"message 73"),
        ]
        post = Entry(0, "group", id_of(75), "ann", key_of("ann"), LUNCH, START + 75, b"of no epoch")
        assert await store.append([post]) == [Appended(Status.NEW, 66)]
        joined = Entry(0, "joined", id_of(76), "mia", key_of("mia"), EVERYONE, START + 76, b"lunch")
        assert (await store.change_room(joined, LIMITS)).status is Status.NEW
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT DISTINCT epoch FROM rooms").fetchall() == [(0,)]
        assert database.execute("SELECT count(*) FROM epochs").fetchall() == [(0,)]


async def test_a_private_room_is_created_in_an_old_file(migrate):
    path = migrate("server-5.db")
    own = identity_of("ann")
    room = room_id(own.public.signing, id_of(80), private=True)
    members = [(name, identity_of(name).public) for name in ("ann", "nia")]
    signed = sign_epoch(own, bytes(32), room=room, name="den", members=members, owners=[own.public.signing])
    begun = Entry(0, "epoch", id_of(80), "ann", key_of("ann"), room, START + 80, signed.body)
    async with open_server_store(path, inline) as store:
        await store.load(lambda entries: None)
        assert (await store.change_room(begun, LIMITS)).status is Status.NEW
    async with open_server_store(path, inline) as store:
        names, _ = await store.load(lambda entries: None)
        assert (await store.save_name(same_owner("nia", names))).rooms == {LUNCH: 57, room: 66}
        assert [one.seq for one in await read_all(store, "nia", 65)] == [67]
        assert (await store.epoch(room, 0, "ann", key_of("ann"))).body == signed.body


# --- schema 4 ---


async def test_who_loses_a_name_from_now_on_is_kept(migrate):
    path = migrate("server-4.db")
    async with open_server_store(path, inline) as store:
        names, _ = await store.load(lambda entries: None)
        assert await store.past_owners() == []
        (eve,) = [one for one in names if one.record.name == "eve"]
        await store.delete("eve", START + 100)
    async with open_server_store(path, inline) as store:
        assert await store.past_owners() == [("eve", eve.owner)]


OF_SCHEMA_4 = ("ann", "bob", "cid", "dee", "eve", "fay", "gus", "hal", "kim", "lou", "mia", "nia")
TRIMMED = "SELECT count(*) FROM entries WHERE kept = 0 AND recipient = '' AND sender <> ? AND seq > ?"


@pytest.mark.parametrize("after", [0, 30, 41, 49])
async def test_what_was_kept_before_there_were_rooms_is_read_and_what_was_trimmed_is_counted(migrate, after):
    old = {seq: Entry(seq, *fields) for seq, *fields in rows("server-4.db", KEPT)}
    (trimmed,) = rows("server-4.db", "SELECT count(*) FROM entries WHERE kept = 0 AND recipient = ''")[0]
    assert trimmed == 10
    async with open_server_store(migrate("server-4.db"), inline) as store:
        await store.load(lambda entries: None)
        for name in OF_SCHEMA_4:
            entries = await read_all(store, name, after)
            counted = [one for one in entries if one.kind == "missed" and one.seq not in (33, 34)]
            assert {one.seq: one for one in entries if one not in counted} == {
                seq: one
                for seq, one in old.items()
                if one.recipient == name or (one.recipient == EVERYONE and one.sender.lower() != name)
                if seq > after
            }
            with closing(
                sqlite3.connect(f"{(FIXTURES / 'server-4.db').as_uri()}?mode=ro&immutable=1", uri=True)
            ) as file:
                (missed,) = file.execute(TRIMMED, (name, after)).fetchone()
            assert sum(int(one.body) for one in counted) == missed, name


async def test_a_notice_of_posts_to_everyone_has_the_id_that_it_had(migrate):
    """A client that has taken it from the program before shows it once. That program counted 6 in one gap, too."""
    async with open_server_store(migrate("server-4.db"), inline) as store:
        await store.load(lambda entries: None)
        (notice,) = [one for one in await read_all(store, "kim", 0) if one.kind == "missed"]
        assert (notice.seq, notice.body, notice.id.hex()) == (31, b"6", "13e01099546c66e111753fa0c0dda8e8")


async def test_positions_and_what_waits_stay(migrate):
    old = rows("server-4.db", "SELECT name, position, letters FROM mailboxes")
    posts_after = "SELECT count(*) FROM entries WHERE kept = 1 AND recipient = '' AND seq > {} AND sender NOT LIKE '{}'"
    async with open_server_store(migrate("server-4.db"), inline) as store:
        names, head = await store.load(lambda entries: None)
        assert (head, store.damaged) == (55, 0)
        for name, position, letter_count in old:
            (known,) = [one for one in names if one.record.name.lower() == name]
            if known.record.credentials:
                posts = rows("server-4.db", posts_after.format(position, name))[0][0]
                assert await store.save_name(known.record) == Position(position, letter_count + posts, 55), name


async def test_what_operators_have_decided_stays(migrate):
    async with open_server_store(migrate("server-4.db"), inline) as store:
        names, _ = await store.load(lambda entries: None)
        assert {one.record.name: one.reserved for one in names if one.record.credentials is None} == {
            "hal": "",
            "eve": "aaaa-bbbb-cccc-dddd",
        }
        assert await store.rules() == (
            [Ban(BanKind.NAME, "spammer", "spammer"), Ban(BanKind.ADDRESS, "10.9.0.0/16")],
            [Invitation(b"h" * 32, START + 1000, "oda")],
        )
        unused = await store.unused([], START + 91, START + 95)
        assert unused == [one.record.name for one in names if one.record.name not in ("bob", "dee", "Fay", "nia")], (
            "who was seen when is known, and for whom letters wait"
        )


async def test_all_requests_are_still_known(migrate):
    old = rows(
        "server-4.db",
        "SELECT seq, kind, id, sender, key, recipient, receipt FROM entries"
        " WHERE request IS NOT NULL AND key IS NOT NULL",
    )
    async with open_server_store(migrate("server-4.db"), inline) as store:
        await store.load(lambda entries: None)
        for seq, kind, id_, sender, key, recipient, receipt in old:
            body = b"message %d" % int.from_bytes(id_, "big")
            (appended,) = await store.append([Entry(0, kind, id_, sender, key, recipient or "", START, body)])
            assert appended == Appended(Status.KNOWN, max(seq, 0), receipt or b""), seq
    assert (len(old), sum(1 for *_, receipt in old if receipt)) == (38, 4)


async def test_the_posts_become_those_of_the_room_of_everyone(migrate, monkeypatch):
    path = migrate("server-4.db")
    async with open_server_store(path, inline) as store:
        await store.load(lambda entries: None)
        assert await store.rooms() == [(EVERYONE, "everyone")]
    with closing(sqlite3.connect(path)) as database:
        counts = database.execute("SELECT posts, bytes, latest, trimmed, members, unused_since FROM rooms").fetchall()
        assert counts == [(3, 30, 52, 44, 0, None)]
        assert database.execute("SELECT * FROM log").fetchall() == rows("server-4.db", "SELECT head, latest FROM log")
    async with open_server_store(path, inline) as store:
        names, _ = await store.load(lambda entries: None)
        monkeypatch.setattr(server_log, "ROOM_POSTS", 3)
        more = Entry(0, "group", id_of(60), "ann", key_of("ann"), EVERYONE, START + 60, b"message 60")
        assert await store.append([more]) == [Appended(Status.NEW, 56)]
        entries = await read_all(store, "kim", 47)
        assert [(one.kind, one.seq, one.body) for one in entries] == [
            ("missed", 48, b"1"),
            *[("group", 50, b"message 52"), ("group", 52, b"message 54"), ("group", 56, b"message 60")],
        ]
        created = Entry(0, "created", id_of(61), "ann", key_of("ann"), EVERYONE, START + 61, b"lunch")
        assert (await store.change_room(created, LIMITS)).status is Status.NEW
        assert (await store.save_name(same_owner("ann", names))).rooms == {room_id(key_of("ann"), id_of(61)): 57}


@pytest.mark.parametrize(
    "damage",
    [
        *("DELETE FROM log", "INSERT INTO log SELECT * FROM log", "UPDATE log SET posts = NULL, bytes = 'x'"),
        "UPDATE log SET posts = -1, head = 3",
    ],
)
async def test_damaged_counts_of_the_log_do_not_stop_it(migrate, damage):
    path = migrate("server-4.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute(damage)
    async with open_server_store(path, inline) as store:
        _, head = await store.load(lambda entries: None)
        assert head == 55
        assert [one.seq for one in await read_all(store, "kim", 47)] == [48, 50, 52]
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT posts, bytes, latest, trimmed FROM rooms").fetchall() == [(3, 30, 52, 44)]


# --- schema 3 ---

KEPT = "SELECT seq, kind, id, sender, key, recipient, taken_at, body FROM entries WHERE kept = 1 AND key IS NOT NULL"


async def test_names_with_mailboxes(migrate):
    old = rows("server-3.db", "SELECT number, name, freed, position FROM names ORDER BY number")
    path = migrate("server-3.db")
    async with open_server_store(path, inline) as store:
        names, head = await store.load(lambda entries: None)
        assert (head, store.damaged) == (47, 1), "ivy has lost their name"
        expected = [(name, freed == 0) for _, name, freed, _ in old if name]
        assert [(one.record.name, one.record.credentials is not None) for one in names] == expected
        assert all(one.owner for one in names)
        for _, name, freed, position in old:
            if name and not freed:
                assert (await store.save_name(same_owner(name, names))).seq == position
    with closing(sqlite3.connect(path)) as database:
        damaged = database.execute("SELECT number, name, position, letters, bytes FROM damaged_names ORDER BY number")
        assert damaged.fetchall() == [(9, None, None, None, None), (10, None, "x", 0, 0)]


async def test_entries_stay_as_they_are(migrate):
    old = {seq: Entry(seq, *fields) for seq, *fields in rows("server-3.db", KEPT)}
    async with open_server_store(migrate("server-3.db"), inline) as store:
        names, _ = await store.load(lambda entries: None)
        for name in ("ann", "bob", "cid", "dee", "eve", "fay", "gus", "hal", "ivy", "kim", "lou", "mia"):
            entries = await read_all(store, name, 0)
            assert {one.seq: one for one in entries if one.kind != "missed" or one.seq in (33, 34)} == {
                seq: one
                for seq, one in old.items()
                if one.recipient == name or (one.recipient == EVERYONE and one.sender.lower() != name)
            }
        assert store.damaged == 2, "37 has no key"
        assert [one.body for one in await read_all(store, "kim", 0) if one.kind == "missed"] == [b"6"]
        position = await store.save_name(same_owner("bob", names))
        assert (position.seq, position.waiting) == (3, 7 + 4)


async def test_requests_get_numbers(migrate):
    old = rows(
        "server-3.db",
        "SELECT seq, kind, id, sender, key, recipient, hash IS NULL, receipt FROM entries"
        " WHERE kind IN ('direct', 'group') AND key IS NOT NULL",
    )
    assert {seq > 0 for seq, *_ in old} == {True, False}
    async with open_server_store(migrate("server-3.db"), inline) as store:
        await store.load(lambda entries: None)
        for seq, kind, id_, sender, key, recipient, has_no_hash, receipt in old:
            (appended,) = await store.append([Entry(0, kind, id_, sender, key, recipient or "bob", START, b"another")])
            if has_no_hash:
                assert appended == Appended(Status.KNOWN, max(seq, 0), receipt or b"")
            else:
                assert appended.status is Status.CONFLICT
        first = Entry(0, "direct", id_of(31), "Lou", key_of("lou"), "bob", START, b"message 31")
        assert await store.append([first]) == [Appended(Status.KNOWN, 36)]
        assert (await store.append([direct(1000, to="dee")]))[0].seq == 48


DAMAGE = [
    *("entries SET key = 'text' WHERE seq = 2", "entries SET key = CAST(x'ff00' AS TEXT) WHERE seq = 3"),
    *("entries SET id = 17 WHERE seq = 4", "entries SET id = NULL WHERE seq = 5", "entries SET kind = 1 WHERE seq = 6"),
    *("entries SET kind = x'00' WHERE seq = 7", "entries SET recipient = NULL WHERE seq = 9"),
    *("entries SET kept = 'x', taken_at = 'x' WHERE seq = 28", "entries SET sender = x'ff' WHERE seq = 29"),
    *("names SET name = x'626f62' WHERE number = 2", "names SET name = CAST(x'ff00ff' AS TEXT) WHERE number = 3"),
    *("names SET name = 'a ' || number WHERE number > 9", "names SET position = x'00' WHERE number = 4"),
]


async def test_damaged_rows_do_not_stop_it(migrate):
    path = migrate("server-3.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        for damage in DAMAGE:
            database.execute(f"UPDATE {damage}")
    async with open_server_store(path, inline) as store:
        names, head = await store.load(lambda entries: None)
        assert ([one.record.name for one in names], head) == (["ann", "eve", "Fay", "hal"], 47)
        for name, expected in {"bob": {30, 32, 36, 40, 41, 42, 43, 44}, "fay": {41, 42, 43, 44}}.items():
            assert {one.seq for one in await read_all(store, name, 0) if one.kind != "missed"} == expected


async def test_old_answers_go_when_they_are_too_old(migrate):
    path = migrate("server-3.db")
    async with open_server_store(path, inline) as store:
        await store.retain(START + 12, START + 100)
    with closing(sqlite3.connect(path)) as database:
        (first,) = database.execute("SELECT min(seq) FROM entries").fetchone()
        assert first == -5
    async with open_server_store(path, inline) as store:
        while await store.retain(2e9, 2e9):
            pass
    with closing(sqlite3.connect(path)) as database:
        assert {kind for (kind,) in database.execute("SELECT kind FROM entries")} == {"failed"}


# --- schema 2 ---


async def test_names_and_their_order(migrate):
    async with open_server_store(migrate("server.db"), inline) as store:
        names, head = await store.load(lambda entries: None)
        assert (head, store.damaged) == (34, 0), "two counts of missed posts come after number 32"
        old = rows("server.db", "SELECT name, host, port, since, signing, link, certificate FROM names ORDER BY since")
        assert [(one.record.name, one.record.host, one.record.port, one.record.since) for one in names] == [
            row[:4] for row in old
        ]
        for one, (*_, signing, _, certificate) in zip(names, old, strict=True):
            assert one.owner == one.record.credentials
            if signing is None:
                assert (one.record.name, one.owner) == ("gus", None)
            else:
                assert (one.owner.keys.signing, one.owner.certificate) == (signing, certificate)


# What each name had to get, and what comes as well since posts are for everybody: those have come before.
WAITING = {
    "ann": ([("receipt", 10), ("failed", 11), *posts(22)], posts(15, 16)),
    "bob": (
        [
            *letters(1),
            *posts(2),
            *letters(3, 4),
            *posts(5),
            *letters(6, 7, 19),
            *posts(20),
            *letters(21),
            *posts(22),
            *letters(23),
        ],
        posts(15, 16),
    ),
    "cid": ([], []),
    "dee": (posts(2, 5, 20), posts(16, 22)),
    "eve": (posts(22), []),
    "Fay": ([*posts(2), *letters(9), *posts(20)], posts(5, 15)),
    "hal": ([*posts(15, 16, 20), ("missed", 18)], posts(22)),
    "ivy": ([("missed", 17)], []),
    "jan": ([], []),
    "kim": ([], []),
    "lou": ([], []),
}


@pytest.mark.parametrize("name", WAITING)
async def test_what_waited_still_waits(migrate, name):
    expected, known = WAITING[name]
    async with open_server_store(migrate("server.db"), inline) as store:
        names, _ = await store.load(lambda entries: None)
        position = await store.save_name(same_owner(name, names))
        entries = await read_all(store, name, position.seq)
        assert [number for number in numbers(entries) if number not in known] == expected
        assert [number for number in numbers(entries) if number in known] == known
        assert position.waiting == sum(entry.kind in ("direct", "group") for entry in entries)


async def test_entries_are_what_the_letters_were(migrate):
    old = rows("server.db", "SELECT number, kind, sender, id, lower(recipient), sent_at, body FROM letters")
    old += rows("server.db", "SELECT number, 'group', sender, id, '', sent_at, body FROM posts")
    waited = {number: row for number, *row in old}
    async with open_server_store(migrate("server.db"), inline) as store:
        await store.load(lambda entries: None)
        found = {entry.seq: entry for name in [*WAITING, "gus"] for entry in await read_all(store, name, 0)}
    notices = [found.pop(seq) for seq in (33, 34)]
    assert set(found) == set(waited)
    for seq, (kind, sender, id_, recipient, sent_at, body) in waited.items():
        entry = found[seq]
        assert (entry.sender, entry.id, entry.taken_at) == (sender, id_, sent_at)
        assert entry.key == (NO_KEY if sender == "gus" else key_of(sender))
        if kind == "unreadable":
            assert (entry.kind, entry.body, entry.recipient) == (EntryKind.FAILED, b"", "ann")
        else:
            assert (entry.kind, entry.body) == (kind, body)
            assert entry.recipient == (EVERYONE if kind == "group" else recipient)
    assert [(one.kind, one.id, one.recipient, one.sender, one.key, one.body) for one in notices] == [
        ("missed", id_of(18), "hal", "hal", NO_KEY, b"2"),
        ("missed", id_of(17), "ivy", "ivy", NO_KEY, b"1"),
    ]


async def test_the_letters_of_a_freed_name_fail(migrate):
    async with open_server_store(migrate("server.db"), inline) as store:
        await store.load(lambda entries: None)
        me = identity_of("gus")
        certificate = sign_identity(me, name="gus", server_key=SERVER_KEY)
        record = Record("gus", "10.0.0.7", 6007, True, START + 99, Credentials(me.public, certificate))
        assert await store.save_name(record) == Position(34, 0, 35), "nobody knows whose they were"
        (failed,) = await read_all(store, "bob", 34)
        assert (failed.kind, failed.id, failed.key) == (EntryKind.FAILED, id_of(8), NO_KEY)


async def test_copies_of_requests_are_still_known(migrate):
    answers = rows("server.db", "SELECT kind, status, sender, id, receipt FROM answers")
    numbers = {id_: number for number, id_ in rows("server.db", "SELECT number, id FROM letters WHERE kind = 'direct'")}
    assert {status for _, status, *_ in answers} == {"SAVED", "DELIVERED", "UNREADABLE"}
    async with open_server_store(migrate("server.db"), inline) as store:
        await store.load(lambda entries: None)
        for kind, status, sender, id_, receipt in answers:
            key = NO_KEY if sender == "gus" else key_of(sender)
            recipient = "bob" if kind == "direct" else EVERYONE
            # Another recipient and another body: their hashes were not kept, so any will do.
            (appended,) = await store.append([Entry(0, kind, id_, sender, key, recipient, START, b"any")])
            assert appended.status is Status.KNOWN, (kind, id_)
            assert appended.receipt == (receipt if status == "DELIVERED" else b"")
            assert appended.seq >= 0
            if kind == "direct" and id_ in numbers:
                assert appended.seq == numbers[id_]
        assert await read_all(store, "bob", 34) == []


async def test_the_mailbox_counts_letters_alone(migrate):
    path = migrate("server.db")
    async with open_server_store(path, inline) as store:
        await store.load(lambda entries: None)
    with closing(sqlite3.connect(path)) as database:
        counts = database.execute("SELECT name, letters, bytes FROM mailboxes WHERE letters OR bytes ORDER BY name")
        size = rows("server.db", "SELECT sum(length(body)) FROM letters WHERE recipient LIKE 'bob' AND kind = 'direct'")
        assert counts.fetchall() == [("bob", 8, size[0][0]), ("fay", 1, 124), ("gus", 1, 125)]
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        expected = ["bans", "damaged", "damaged_epochs", "damaged_names", "damaged_past_owners", "damaged_rooms"]
        expected += ["entries", "epochs", "invitations", "log", "mailboxes", "members", "names", "online"]
        expected += ["past_owners", "rooms"]
        assert [name for (name,) in tables] == expected


async def test_the_log_goes_on(migrate):
    path = migrate("server.db")
    async with open_server_store(path, inline) as store:
        names, _ = await store.load(lambda entries: None)
        receipts = {seq: b"receipt of %d" % seq for seq in range(1, 35)}
        await store.acknowledge([Acknowledged("bob", 34, receipts)], START)
        assert (await store.append([direct(1000, to="bob")]))[0].seq == 43, "after a receipt for each of eight letters"
    async with open_server_store(path, inline) as store:
        names, head = await store.load(lambda entries: None)
        assert head == 43
        assert (await store.save_name(same_owner("bob", names))) == Position(34, 1, 43)
        receipts = [entry for entry in await read_all(store, "ann", 34) if entry.kind == EntryKind.RECEIPT]
        assert numbers(receipts) == [("receipt", 1), ("receipt", 6), ("receipt", 23)]
        assert (receipts[0].body, receipts[0].key) == (b"receipt of 1", key_of("bob"))


async def test_what_is_too_old_goes(migrate):
    path = migrate("server.db")
    async with open_server_store(path, inline) as store:
        told = []
        await store.load(told.extend)
        while await store.retain(START, START + 100):
            pass
        assert numbers(told) == [("failed", 1)], "from a month ago"
        while await store.retain(START + 15, START + 100):
            pass
        # Of what was handed over before, too: 17 and 18 are young enough.
        results = await store.append(
            [Entry(0, "group", id_of(n), "kim", key_of("kim" if n == 14 else "cid"), "", START + 99) for n in (14, 17)]
        )
        assert [result.status for result in results] == [Status.NEW, Status.KNOWN]
        while await store.retain(2e9, 2e9):
            pass
    with closing(sqlite3.connect(path)) as database:
        assert {kind for (kind,) in database.execute("SELECT kind FROM entries")} == {"failed"}


# --- what happens rarely ---


async def test_one_id_for_two_letters(migrate):
    async with open_server_store(migrate("server-odd.db"), inline) as store:
        names, head = await store.load(lambda entries: None)
        assert head == 13
        found = {}
        for name in ("ann", "bob", "cid", "dee"):
            position = await store.save_name(same_owner(name, names))
            found[name] = await read_all(store, name, position.seq)
        assert numbers(found["ann"]) == [("receipt", 1), *letters(2), *posts(5, 6, 5, 6)]
        assert numbers(found["bob"]) == [*letters(3, 4), *posts(5, 6, 5, 6)]
        assert numbers(found["dee"]) == [("receipt", 1), *posts(5, 6), *letters(4), *posts(5, 6)]
        assert found["cid"] == [], "these are own posts"
        old = dict(rows("server-odd.db", "SELECT number, body FROM letters"))
        assert all(entry.body == old[entry.seq] for entries in found.values() for entry in entries if entry.seq != 13)
        again = Entry(0, "direct", id_of(4), "ann", key_of("ann"), "dee", START, b"any")
        assert [result.status for result in await store.append([again])] == [Status.KNOWN]


# --- schema 1 ---


async def test_the_first_schema(migrate):
    async with open_server_store(migrate("server-1.db"), inline) as store:
        names, head = await store.load(lambda entries: None)
        assert [(one.record.name, one.record.credentials, one.owner) for one in names] == [
            (name, None, None) for name in ("ann", "Bob", "cid", "dee", "eve")
        ]
        assert head == 9
        entries = await read_all(store, "bob", 0)
        assert numbers(entries) == [*letters(1), *posts(2), *letters(3), *posts(4), *letters(5), ("missed", 9)]
        assert [entry.body for entry in entries] == [
            "one: ä\0\x1b[31m\n 🙂".encode(),
            b"two, to all",
            b"42",
            b"four, to all",
            b"five",
            b"4",
        ]
        assert {entry.key for entry in entries} == {NO_KEY}
        assert numbers(await read_all(store, "eve", 3)) == posts(4)
        assert numbers(await read_all(store, "ann", 6)) == [("receipt", 6)]
        known = [("ann", 1), ("ann", 5), ("ann", 6), ("cid", 3), ("Bob", 7)]
        requests = [Entry(0, "direct", id_of(n), name, NO_KEY, "bob", START) for name, n in known]
        assert {result.status for result in await store.append(requests)} == {Status.KNOWN}


@pytest.mark.parametrize(
    "file", ["server-6.db", "server-5.db", "server-4.db", "server-3.db", "server.db", "server-odd.db", "server-1.db"]
)
async def test_a_migration_that_fails_leaves_the_version_before(migrate, file):
    path = migrate(file)
    *before, last = SERVER_SCHEMA.migrations
    with pytest.raises(StoreError, match="no such table"):
        open_database(path, attrs.evolve(SERVER_SCHEMA, migrations=[*before, last + FAILURE]))
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchall() == [(len(before),)]
    async with open_server_store(path, inline) as store:
        again = await store.load(lambda entries: None)
    async with open_server_store(migrate(file), inline) as store:
        assert await store.load(lambda entries: None) == again
