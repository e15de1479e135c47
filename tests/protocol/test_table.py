"""The client table: changes, pages and epochs, and copies that get their pages in any order.

Pure functions; hypothesis chooses the order of the pages.
"""

import random

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_chat.errors import TooManyPeople
from trio_chat.protocol import table as table_module
from trio_chat.protocol.messages import TableChange
from trio_chat.protocol.parts import OutgoingRequest
from trio_chat.protocol.records import Credentials, PublicKeys, Record, Version, fold
from trio_chat.protocol.table import MAX_ROWS, TABLE_PAGE, ClientTable, ServerTable
from trio_chat.protocol.wire import encode

ID = bytes(range(16))
EPOCH, LATER = b"epoch..1", b"epoch..2"


def record(name: str, *, online: bool = True, port: int = 3333) -> Record:
    return Record(name, "127.0.0.1", port, online, 12.5)


def credentials(number: int) -> Credentials:
    return Credentials(PublicKeys(bytes((number,)) * 32, bytes((number + 100,)) * 32), bytes((number,)) * 64)


def directory_of(count: int, epoch: bytes = EPOCH) -> ServerTable:
    directory = ServerTable(epoch)
    for number in range(count):
        directory.put(record(f"n{number}"))
    return directory


def bring_up_to_date(directory: ServerTable, table: ClientTable, between=lambda: None) -> int:
    """Apply changes until the table is up to date, as the server does; return how many it took.

    `between` is called after each.
    """
    epoch, left_out = directory.version.epoch, 0
    for pages in range(1000):
        change = directory.change_since(table.version, ID, left_out=left_out)
        if change is None:
            return pages
        if change.before.n == 0:
            left_out = directory.version.n
        table.apply(change, epoch)
        between()
    raise AssertionError("the changes do not end")


def rows(table: ServerTable | ClientTable, names: list[str]) -> dict[str, Record]:
    return {name: table[name] for name in names}


# --- a table that is too long ---


def change_to(version: int, before: int, *records: Record) -> TableChange:
    return TableChange(ID, Version(EPOCH, before), Version(EPOCH, version), records)


def test_a_client_takes_a_bounded_number_of_names_and_nothing_of_a_change_beyond_that():
    table = ClientTable()
    names = [f"n{number}" for number in range(MAX_ROWS)]
    for start in range(0, MAX_ROWS, TABLE_PAGE):
        rows = map(record, names[start : start + TABLE_PAGE])
        table.apply(change_to(start + TABLE_PAGE, start, *rows), EPOCH)
    version = table.version
    assert len(table) == MAX_ROWS
    for _ in range(2):
        with pytest.raises(TooManyPeople, match=f"{MAX_ROWS:,}"):
            table.apply(change_to(version.n + 1, version.n, record("n0", online=False), record("one-more")), EPOCH)
    assert (len(table), table.version) == (MAX_ROWS, version)
    assert "one-more" not in table
    assert table["n0"].online, "nothing of it"

    known = (record("N0", online=False), attrs.evolve(record("n1"), deleted=True))
    table.apply(change_to(version.n + 1, version.n, *known), EPOCH)
    assert not table["n0"].online, "what is known may change"
    table.apply(change_to(version.n + 2, version.n + 1, record("one-more")), EPOCH)
    assert len(table) == MAX_ROWS


def test_a_table_that_begins_again_counts_only_its_own_names(monkeypatch):
    monkeypatch.setattr(table_module, "MAX_ROWS", 3)
    table = ClientTable()
    table.apply(change_to(3, 0, *map(record, "abc")), EPOCH)
    later = attrs.evolve(change_to(3, 0, *map(record, "def")), before=Version(LATER, 0), after=Version(LATER, 3))
    table.apply(later, LATER)
    assert set(table) == {*"def"}


# --- the server's table ---


def test_the_names_of_a_key_are_counted():
    alice, bob = (credentials(number) for number in (1, 2))
    directory = ServerTable(EPOCH)
    owned = [attrs.evolve(record(name), credentials=alice) for name in ("a", "b", "c")]
    for one in (*owned, owned[0], attrs.evolve(owned[0], name="A", online=False)):
        directory.put(one)
    directory.put(attrs.evolve(owned[1], credentials=bob))
    directory.put(attrs.evolve(owned[2], credentials=None))
    counts = [directory.names_of(one.keys.signing) for one in (alice, bob, credentials(3))]
    assert counts == [1, 1, 0]


def test_a_new_client_gets_the_whole_table():
    directory = directory_of(3)
    change = directory.change_since(None, ID)
    records = (record("n0"), record("n1"), record("n2"))
    assert change == TableChange(ID, Version(EPOCH, 0), Version(EPOCH, 3), records)


def test_each_changed_row_is_sent_once_in_its_present_state():
    directory = directory_of(5)
    held = directory.version
    directory.put(record("n3", online=False))
    directory.put(record("n1", port=1))
    directory.put(record("n1", port=2))
    change = directory.change_since(held, ID)
    assert (change.before, change.after) == (held, Version(EPOCH, 8))
    assert change.records == (record("n3", online=False), record("n1", port=2))


def test_a_client_that_is_up_to_date_gets_nothing():
    directory = directory_of(3)
    assert directory.change_since(Version(EPOCH, 3), ID) is None


@pytest.mark.parametrize("held", [Version(LATER, 2), Version(LATER, 3), Version(EPOCH, 4), Version(EPOCH, 2**53)])
def test_a_client_with_an_impossible_version_gets_the_table_from_its_beginning(held):
    directory = directory_of(3)
    assert directory.change_since(held, ID) == directory.change_since(None, ID)


def test_look_ups_ignore_case_and_the_name_is_kept_as_registered_last():
    directory = directory_of(0)
    directory.put(record("bob"))
    directory.put(record("Bob"))
    assert "BOB" in directory
    assert directory["bob"].name == "Bob"
    assert len(directory) == 1
    assert directory.change_since(None, ID).records == (record("Bob"),)


@pytest.mark.parametrize(("count", "sizes"), [(64, [64]), (65, [64, 1]), (128, [64, 64]), (200, [64, 64, 64, 8])])
def test_a_long_table_comes_in_pages(count, sizes):
    directory, table = directory_of(count), ClientTable()
    seen = []
    while change := directory.change_since(table.version, ID):
        seen.append(len(change.records))
        assert table.apply(change, EPOCH) == change.records
    assert seen == sizes
    assert list(table) == [f"n{number}" for number in range(count)]


def test_a_change_of_more_than_a_page_comes_in_pages_too():
    directory, table = directory_of(300), ClientTable()
    bring_up_to_date(directory, table)
    for number in range(100, 250):
        directory.put(record(f"n{number}", online=False))
    assert bring_up_to_date(directory, table) == 3
    assert [name for name in table if not table[name].online] == [f"n{number}" for number in range(100, 250)]


def test_some_rows_can_be_replaced_each_in_its_own_place():
    directory = directory_of(100)
    directory.put(record("n1", port=4444))
    hidden = {"n1": (2, record("N1", online=False))}
    one, two = [], []
    table = ClientTable()
    table.apply(change_to(1, 0, record("n0")), EPOCH)
    for page in (one, two):
        change = directory.change_since(table.version, ID, instead=hidden)
        table.apply(change, EPOCH)
        page += [row.name for row in change.records]
    assert one == ["N1", *(f"n{number}" for number in range(2, 65))]
    assert two == [f"n{number}" for number in range(65, 100)]
    assert table.version == directory.version


def test_a_page_may_be_empty_if_all_that_has_changed_is_replaced():
    directory = directory_of(3)
    held = directory.version
    directory.put(record("n1", port=4444))
    change = directory.change_since(held, ID, instead={"n1": (2, record("n1"))})
    assert change == TableChange(ID, held, directory.version, ())


def test_a_page_can_always_be_sent():
    directory = ServerTable(EPOCH)
    for number in range(64):
        host = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
        directory.put(Record(f"{number:032}", host, 65535, True, 1e11 / 3, credentials(number)))
    page = directory.change_since(None, ID)
    assert len(page.records) == 64
    OutgoingRequest(TableChange.kind, ID, encode(page))


def test_a_row_carries_the_credentials_that_the_name_has_now():
    directory, table = ServerTable(EPOCH), ClientTable()
    for shown in (None, credentials(1), credentials(2), None):
        directory.put(attrs.evolve(record("bob"), credentials=shown))
        bring_up_to_date(directory, table)
        assert table["bob"].credentials == shown


# --- the copy of a client ---


def test_a_client_table_is_a_mapping_that_ignores_case():
    table = ClientTable()
    assert (len(table), list(table), table.version) == (0, [], None)
    directory = ServerTable(EPOCH)
    directory.put(record("Bob"))
    directory.put(record("alice"))
    bring_up_to_date(directory, table)
    assert list(table) == ["Bob", "alice"]
    assert table["BOB"] == table["bob"] == record("Bob")
    assert "bOB" in table
    assert "carol" not in table
    assert table.get("carol") is None
    with pytest.raises(KeyError):
        table["carol"]


def test_a_table_knows_which_versions_it_holds():
    table = ClientTable()
    assert not table.holds(Version(EPOCH, 0))
    bring_up_to_date(directory_of(3), table)
    assert table.holds(Version(EPOCH, 2))
    assert table.holds(Version(EPOCH, 3))
    assert not table.holds(Version(EPOCH, 4))
    assert not table.holds(Version(LATER, 1))


def test_a_change_applies_to_exactly_the_version_before_it():
    directory, table = directory_of(2), ClientTable()
    bring_up_to_date(directory, table)
    first = directory.version
    directory.put(record("n0", online=False))
    one = directory.change_since(first, ID)
    second = directory.version
    directory.put(record("n1", online=False))
    two, both = directory.change_since(second, ID), directory.change_since(first, ID)

    assert table.apply(two, EPOCH) == (), "it arrived before the change that it follows"
    assert table["n1"].online
    assert table.version == first
    assert table.apply(one, EPOCH) == one.records
    assert table.apply(one, EPOCH) == (), "a duplicate"
    assert table.apply(both, EPOCH) == (), "it begins too early"
    assert table.version == second
    assert table.apply(two, EPOCH) == two.records
    assert table.apply(one, EPOCH) == (), "late"
    assert not any(table[name].online for name in table)


def test_a_first_page_does_not_undo_what_is_held():
    directory, table = directory_of(100), ClientTable()
    first = directory.change_since(None, ID)
    bring_up_to_date(directory, table)
    assert table.apply(first, EPOCH) == ()
    assert len(table) == 100


def test_pages_while_the_directory_moves_on():
    directory, table = directory_of(200), ClientTable()
    table.apply(directory.change_since(None, ID), EPOCH)
    directory.put(record("n10", port=1))  # in the page that was sent
    directory.put(record("n150", port=2))  # in one that was not
    directory.put(record("newcomer"))
    table.apply(directory.change_since(table.version, ID), EPOCH)
    directory.put(record("n10", port=3))
    bring_up_to_date(directory, table)
    names = [*(f"n{number}" for number in range(200)), "newcomer"]
    assert rows(table, names) == rows(directory, names)
    assert len(table) == 201


def test_after_a_server_restart_the_table_is_replaced():
    table = ClientTable()
    bring_up_to_date(directory_of(3), table)
    after = ServerTable(LATER)
    after.put(record("alice"))
    assert bring_up_to_date(after, table) == 1
    assert list(table) == ["alice"]
    assert table.version == Version(LATER, 1)


def test_a_late_page_of_the_former_server_changes_nothing():
    former, present, table = directory_of(3), ServerTable(LATER), ClientTable()
    bring_up_to_date(former, table)
    late_first = former.change_since(None, ID)
    former.put(record("n4"))
    late_delta = former.change_since(table.version, ID)
    present.put(record("alice"))

    assert table.apply(late_delta, LATER) == (), "the client has registered with the present server"
    bring_up_to_date(present, table)
    assert table.apply(late_first, LATER) == ()
    assert table.apply(late_delta, LATER) == ()
    assert list(table) == ["alice"]


def test_a_page_of_the_next_server_waits_for_the_registration_there():
    present, table = directory_of(3), ClientTable()
    bring_up_to_date(present, table)
    assert table.apply(directory_of(1, LATER).change_since(None, ID), EPOCH) == ()
    assert table.version == present.version


def test_a_change_from_one_epoch_to_another_is_ignored():
    table = ClientTable()
    bring_up_to_date(directory_of(3), table)
    mixed = TableChange(ID, Version(EPOCH, 3), Version(LATER, 4), (record("eve"),))
    assert table.apply(mixed, EPOCH) == table.apply(mixed, LATER) == ()
    assert "eve" not in table


# --- any pages in any order ---


class AnyPagesInAnyOrder(RuleBasedStateMachine):
    """A server table that changes and restarts, and a client that gets pages late, twice, out of order or never."""

    def __init__(self) -> None:
        super().__init__()
        self.names = [*(f"n{number}" for number in range(120)), *(f"N{number}" for number in range(30))]
        self.restarts = 0
        self.pages: list[TableChange] = []
        self.table = ClientTable()
        self.restart()

    @rule()
    def restart(self):
        self.restarts += 1
        self.directory = ServerTable(b"%08d" % self.restarts)
        self.directory.put(record("client"))

    @rule(seed=st.integers(0, 2**32), count=st.sampled_from([1, 1, 1, 2, 100]))
    def move_on(self, seed, count):
        dice = random.Random(seed)
        for name in dice.choices(self.names, k=count):
            self.directory.put(record(name, online=dice.random() < 0.5, port=dice.randrange(1, 65536)))

    @rule(late=st.integers(0, 10))
    def send_a_page(self, late):
        """For the version that the client holds, one that it held before, or none."""
        held = [self.table.version, None, *(page.after for page in self.pages)][late % (len(self.pages) + 2)]
        if change := self.directory.change_since(held, ID):
            self.pages.append(change)

    @rule(which=st.integers(0, 2**16))
    def a_page_arrives(self, which):
        if self.pages:
            self.table.apply(self.pages[which % len(self.pages)], self.directory.version.epoch)

    @rule()
    def the_client_is_served_until_it_is_up_to_date(self):
        assert bring_up_to_date(self.directory, self.table) <= len(self.directory) // 64 + 1
        self.the_client_is_up_to_date()

    def the_client_is_up_to_date(self):
        assert self.table.version == self.directory.version
        assert all(name in self.table for name, row in self.directory.items() if row.online)
        assert all(self.table[name] == self.directory[name] for name in self.table)

    @rule(seed=st.integers(0, 2**32), count=st.integers(0, 100))
    def a_client_comes_while_the_table_changes(self, seed, count):
        for number in range(100):
            self.directory.put(record(f"n{number}"))
        self.move_on(seed, count)
        self.table = ClientTable()
        # Once only, after the first page: whoever changes again is on a later one in any case.
        once = iter([seed + 1])
        bring_up_to_date(self.directory, self.table, lambda: [self.move_on(other, 9) for other in once])
        self.the_client_is_up_to_date()

    @invariant()
    def what_is_held_is_what_the_server_had_at_that_version(self):
        version = self.table.version
        if version is None or version.epoch != self.directory.version.epoch:
            return
        newer: set[str] = set()
        while version != self.directory.version:
            change = self.directory.change_since(version, ID)
            newer |= {fold(row.name) for row in change.records}
            version = change.after
        for name in ["client", *self.names]:
            # Those who were away may have been left out.
            if (
                name in self.directory
                and fold(name) not in newer
                and (name in self.table or self.directory[name].online)
            ):
                assert self.table[name] == self.directory[name]

    def teardown(self):
        self.the_client_is_served_until_it_is_up_to_date()


TestAnyPagesInAnyOrder = AnyPagesInAnyOrder.TestCase
TestAnyPagesInAnyOrder.settings = settings(
    max_examples=60, stateful_step_count=30, suppress_health_check=[HealthCheck.too_slow]
)


# --- deleted names ---


def test_a_deleted_row_is_no_part_of_the_table_and_goes_to_clients():
    directory, copy = directory_of(3), ClientTable()
    bring_up_to_date(directory, copy)
    gone = directory.delete("N1")
    assert gone == attrs.evolve(record("n1"), online=False, credentials=None, deleted=True)
    assert list(directory) == ["n0", "n2"] == list(dict(directory))
    assert len(directory) == 2
    assert "n1" not in directory
    with pytest.raises(KeyError):
        directory["n1"]
    assert not directory.is_held("n1", directory.version)
    assert bring_up_to_date(directory, copy) == 1
    assert list(copy) == ["n0", "n2"]


def test_a_name_that_is_registered_again_after_its_deletion_is_a_row():
    directory, copy = directory_of(2), ClientTable()
    bring_up_to_date(directory, copy)
    directory.delete("n0")
    bring_up_to_date(directory, copy)
    directory.put(record("N0"))
    assert directory["n0"] == record("N0")
    assert len(directory) == 2
    bring_up_to_date(directory, copy)
    assert rows(copy, ["n0", "n1"]) == rows(directory, ["n0", "n1"])


def test_deletions_are_listed_in_bounded_memory():
    directory = directory_of(10)
    for n in range(1000):
        directory.put(record(f"gone{n}"))
        directory.delete(f"gone{n}")
    assert len(directory) == 10
    change = directory.change_since(None, ID)
    assert len(change.records) <= 64
    fresh = ClientTable()
    assert bring_up_to_date(directory, fresh) <= 2
    assert sorted(fresh) == sorted(directory)
    assert directory.floor > 0


def keep_up(copies: dict[str, ClientTable], known: dict[str, tuple], directory: ServerTable, who: str) -> None:
    """One message of the server to a client, as in delivery.py: what it knows of a copy is a version and a floor."""
    copy, (held, floor) = copies[who], known[who]
    change = directory.change_since(held, ID, floor)
    if change is not None:
        if change.before.n == 0:
            floor = change.floor
        copy.apply(change, directory.version.epoch)
        known[who] = (copy.version, floor)


@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_every_copy_becomes_the_table_however_far_it_was_behind(dice, listed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_module, "DELETIONS_LISTED", listed)
        patch.setattr(table_module, "TABLE_PAGE", 3)
        directory = directory_of(7)  # these rows are older than most deletions
        copies = {who: ClientTable() for who in "abc"}
        known = dict.fromkeys("abc", (None, 0))
        for _ in range(150):
            name = f"x{dice.randrange(12)}"
            match dice.randrange(6):
                case 0 | 1:
                    directory.put(record(name))
                case 2 | 3 if name in directory:
                    directory.delete(name)
                case 4:
                    keep_up(copies, known, directory, dice.choice("ab"))
                case 5 if dice.random() < 0.2:
                    known[dice.choice("abc")] = (None, 0)  # it registers again; it still has its copy
        for who, copy in copies.items():
            for _ in range(100):
                keep_up(copies, known, directory, who)
            assert dict(copy) == dict(directory), who


def test_a_late_first_page_does_not_undo_a_copy_that_has_begun_again(monkeypatch):
    monkeypatch.setattr(table_module, "DELETIONS_LISTED", 1)
    directory, copy = directory_of(5), ClientTable()
    bring_up_to_date(directory, copy)
    for name in ("n0", "n1", "n2", "n3"):
        directory.delete(name)
    assert directory.floor > copy.version.n
    page = directory.change_since(copy.version, ID, 0)
    assert page.before.n == 0
    assert copy.apply(page, EPOCH)
    directory.put(record("new"))
    bring_up_to_date(directory, copy)
    assert copy.apply(page, EPOCH) == ()
    assert dict(copy) == dict(directory)
