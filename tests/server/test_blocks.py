"""Whom the server shows as offline to whom, and what a list of blocked keys cannot be used for.

No sockets and no clock (tests/bare_server.py). Each viewer has a copy of the table, which gets the changes that the
server would send. Stories with whole programs are in tests/client/test_blocking.py.
"""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bare_server import EPOCH, A, B, BareServer, C, D, credentials_of, elsewhere, identity_of
from trio_chat.protocol.limits import LIMITS, Limits
from trio_chat.protocol.messages import Find, ListNames, Register
from trio_chat.protocol.records import EVERYONE, Entry, EntryKind, Record, fold
from trio_chat.protocol.table import TABLE_PAGE, ClientTable
from trio_chat.server.blocks import Blocks
from trio_chat.server.service import Admission

NAMES = {"alice": A, "bob": B, "carol": C, "dave": D}


def key_of(peer):
    return identity_of(peer).public.signing


class BlockingServer(BareServer):
    """Registers names with lists, and keeps the copies of the table that their clients have."""

    def __init__(self, limits=LIMITS) -> None:
        super().__init__(limits)
        self.copies = {}

    def come(self, name, *blocked, peer=None):
        """Register from the usual place, blocking the keys of these peers."""
        peer = peer or NAMES[name]
        request = Register(
            self.id(), name, credentials_of(peer, name), b"p" * 16, blocked=tuple(key_of(one) for one in blocked)
        )
        admission = self.ask(peer, request)
        assert isinstance(admission, Admission)
        admission.session.table_wanted = self.service.table.version.n
        return admission.session

    def changes_for(self, name):
        """The changes that bring the copy of somebody up to date."""
        session = self.service.session(name)
        copy = self.copies.setdefault(name, ClientTable())
        changes = []
        while True:
            shared = self.service.table.change_since(session.held, b"i" * 16, left_out=session.left_out)
            change = self.service.views.change_for(session, shared, b"i" * 16)
            if change is None:
                return changes
            copy.apply(change, EPOCH)
            session.held = copy.version
            if change.before.n == 0:
                session.left_out = self.service.table.version.n
            if copy.version.n >= session.left_out or copy.version != change.after:
                session.left_out = 0
            changes.append(change)

    def seen_by(self, name) -> dict[str, Record]:
        """The rows that somebody has, and those that they find if they ask."""
        self.changes_for(name)
        session, copy = self.service.session(name), self.copies[name]
        missing = [other for other in self.service.table if other not in copy]
        found = [self.service.views.find(session, Find(bytes(16), other)).record for other in missing]
        assert not any(row.online for row in found)
        return {fold(row.name): row for row in (*copy.values(), *found)}

    def statuses(self, name) -> dict[str, bool]:
        return {other: row.online for other, row in self.seen_by(name).items()}


@pytest.fixture
def server():
    return BlockingServer()


def test_only_who_is_blocked_sees_the_row_as_offline_and_only_that_row(server):
    for name in NAMES:
        server.come(name)
    session = server.come("bob", A)
    everybody = dict.fromkeys(NAMES, True)
    assert server.statuses("alice") == everybody | {"bob": False}
    for other in ("bob", "carol", "dave"):
        assert server.statuses(other) == everybody
    assert server.find(A, "BOB").record == server.seen_by("alice")["bob"]
    assert server.find(C, "bob").record.online
    assert not server.service.is_online_for("BOB", key_of(A))
    assert server.service.is_online_for("Bob", key_of(C))
    assert server.service.is_current(session)


def test_the_row_goes_offline_once_and_then_nothing_comes(server):
    server.come("alice")
    server.come("bob")
    before = server.seen_by("alice")["bob"]
    server.come("bob", A)
    at = server.at
    assert server.seen_by("alice")["bob"] == attrs.evolve(before, online=False, since=at)
    for act in (lambda: server.come("bob", A), lambda: server.service.moved(B, elsewhere(B), server.now)):
        act()
        assert server.changes_for("alice") == []
    server.come("carol")
    (change,) = server.changes_for("alice")
    assert [row.name for row in change.records] == ["carol"]
    assert server.service.table["bob"].address == elsewhere(B).address
    assert server.seen_by("alice")["bob"] == attrs.evolve(before, online=False, since=at)


def test_who_was_away_when_they_blocked_somebody_stays_so_since_then(server):
    server.come("alice")
    server.come("bob")
    server.leave(B)
    before = server.seen_by("alice")["bob"]
    server.come("bob", A)
    assert server.changes_for("alice") == []
    assert server.find(A, "bob").record == before


def test_the_list_counts_while_its_owner_is_away(server):
    server.come("alice")
    server.come("bob", A)
    before = server.seen_by("alice")["bob"]
    server.leave(B)
    assert server.changes_for("alice") == []
    assert server.find(A, "bob").record == before
    server.come("bob")
    assert server.statuses("alice")["bob"]


def test_a_new_owner_of_the_name_is_seen_with_their_own_key(server):
    server.come("alice")
    server.come("bob", A)
    server.leave(B)
    before = server.seen_by("alice")["bob"]
    freed = attrs.evolve(before, credentials=None)
    server.service.load([(freed, before.credentials)])
    assert server.seen_by("alice")["bob"] == before
    server.come("bob", A, peer=D)
    row = server.seen_by("alice")["bob"]
    assert (row.credentials, row.online) == (credentials_of(D, "bob"), False)


def test_a_newcomer_gets_the_whole_table_even_if_its_end_is_hidden(server):
    server.come("bob", A)
    session = server.come("alice")
    server.changes_for("alice")
    server.come("bob", A)
    session.table_wanted = server.service.table.version.n  # the table has changed before the answer
    assert [change.records for change in server.changes_for("alice")] == [()]
    assert server.copies["alice"].holds(server.service.table.version)
    server.come("bob", A)
    assert server.changes_for("alice") == [], "now it is complete"


def test_a_hidden_row_has_its_place_on_the_pages_of_a_large_table(server):
    server.come("alice")
    server.changes_for("alice")
    server.come("bob", A)
    server.service.load((row(number), None) for number in range(3 * TABLE_PAGE))
    server.come("bob", A)
    changes = server.changes_for("alice")
    assert [len(change.records) for change in changes] == [64, 64, 64, 1]
    assert [record.name for record in changes[0].records][:2] == ["bob", "n0"]
    assert not server.copies["alice"]["bob"].online
    assert len(server.copies["alice"]) == 3 * TABLE_PAGE + 2


def test_who_blocks_somebody_is_left_out_of_their_first_table_like_those_who_are_away(server):
    server.come("dave")
    server.leave(D)
    server.come("bob", A)
    session = server.come("alice")
    server.changes_for("alice")
    assert list(server.copies["alice"]) == ["alice"]
    listed = server.service.views.list_names(session, ListNames(bytes(16))).people
    assert [(name, online) for name, online, *_ in listed] == [("alice", True), ("bob", False), ("dave", False)]
    entries = [
        Entry(1, EntryKind.GROUP, bytes(16), name, key_of(NAMES[name]), EVERYONE, 1.0) for name in ("bob", "dave")
    ]
    assert [name for name, _ in server.service.views.senders(session, entries)] == ["bob", "dave"]
    carol = server.come("carol")
    server.changes_for("carol")
    assert [name for name, _ in server.service.views.senders(carol, entries)] == ["dave"]


def row(number):
    return Record(f"n{number}", "10.0.0.9", 9, online=False, since=1.0)


@given(st.data())
def test_every_viewer_sees_what_they_should_whenever_they_look(data):
    server, blocked = BlockingServer(), {}
    for _ in range(data.draw(st.integers(1, 30))):
        name = data.draw(st.sampled_from(sorted(NAMES)))
        match data.draw(st.sampled_from(["come", "come", "leave", "look", "look", "reset"])):
            case "come":
                keys = data.draw(st.sets(st.sampled_from(sorted(NAMES))))
                blocked[name] = keys - {name}
                server.come(name, *(NAMES[one] for one in blocked[name]))
            case "leave" if server.service.session(name):
                server.leave(NAMES[name])
            case "look" if server.service.session(name):
                server.seen_by(name)
            case "reset" if server.service.session(name):
                server.copies[name] = ClientTable()
                server.service.session(name).held = None
    for viewer in NAMES:
        if server.service.session(viewer):
            hidden = {name for name in blocked if viewer in blocked[name]}
            is_online = {one: bool(server.service.session(one)) and one not in hidden for one in blocked}
            assert server.statuses(viewer) == is_online


# --- what it cannot be used for ---


def test_somebody_else_cannot_put_a_row_in_the_name_of_another(server):
    server.come("carol")
    server.come("alice")
    server.come("dave", A)
    assert server.statuses("alice") == {"carol": True, "alice": True, "dave": False}


def test_one_address_cannot_use_up_the_room_for_lists():
    server = BlockingServer(Limits(blocked=8))
    server.come("alice")
    for number in range(5):
        server.come("carol", A, B, D, peer=attrs.evolve(C, address=("10.0.0.3", number + 1)))
        assert server.statuses("alice") == {"alice": True, "carol": True}, "too long for one address"
    server.come("carol", A, B)
    assert server.statuses("alice") == {"alice": True, "carol": False}
    server.come("bob", A)
    assert server.statuses("alice") == {"alice": True, "bob": False, "carol": False}


def test_a_list_that_is_there_may_be_renewed_when_there_is_no_room():
    now, blocks = (1, attrs.evolve(row(1), online=True)), Blocks(8)
    assert not blocks.hides("n1", b"a")
    blocks.replace("n1", b"1", (b"a", b"b", b"a"), "here", None, now)
    for other in range(10):
        blocks.replace(f"o{other}", b"2", (b"c",), f"there {other}", None, now)
    assert not blocks.hides("o9", b"c"), "no room"
    blocks.replace("n1", b"1", (b"a", b"z"), "here", now, now)
    assert blocks.hides("n1", b"z")
    assert not blocks.hides("n1", b"b")
    blocks.replace("n1", b"1", (), "here", now, now)
    for other in range(10):
        blocks.replace(f"o{other}", b"2", (), "there", None, now)
    assert not any(vars(blocks)[what] for what in ("_lists", "_views", "_count_at", "_count")), "nothing is left"


def test_nothing_is_shared_less_because_of_people_who_are_not_concerned(server):
    for name in NAMES:
        server.come(name)
    server.come("bob", A)
    for name in NAMES:
        server.changes_for(name)
    server.come("carol")
    session = server.service.session("alice")
    shared = server.service.table.change_since(session.held, b"i" * 16)
    assert server.service.views.change_for(session, shared, b"i" * 16) is shared, "most changes are of others"
