"""The log in memory: what each name gets from it, what goes into one batch, and what is said of the rest."""

import attrs
import hypothesis
import hypothesis.strategies as st
import pytest

from trio_chat.protocol import log as log_module
from trio_chat.protocol.log import (
    BATCH_BYTES,
    ENTRY_OVERHEAD,
    Log,
    Page,
    first_batch,
    missed_posts,
    removed_from,
    request_hash,
    request_number,
    room_of,
)
from trio_chat.protocol.messages import MAX_BATCH, MAX_RECEIPTS, Batch
from trio_chat.protocol.parts import OutgoingRequest
from trio_chat.protocol.records import (
    EVERYONE,
    MAX_BODY,
    NO_KEY,
    Credentials,
    Entry,
    EntryKind,
    PublicKeys,
)
from trio_chat.protocol.wire import encode

KEY = bytes(range(32))
LUNCH, WORK, TEA = ("#" + digit * 32 for digit in "1a7")


def entry(seq, kind=EntryKind.GROUP, *, sender="alice", to="bob", body=b"hi"):
    recipient = EVERYONE if kind == EntryKind.GROUP else to
    return Entry(seq, kind, seq.to_bytes(16, "big"), sender, KEY, recipient, 100.0 + seq, body)


def direct(seq, **fields):
    return entry(seq, EntryKind.DIRECT, **fields)


def to(room, seq, *, kind=EntryKind.GROUP, sender="alice", body=b"hi"):
    """An entry for a room, or for a name."""
    return attrs.evolve(entry(seq, kind, sender=sender, body=body), recipient=room)


def filled(*entries, head=0):
    log = Log(head)
    for one in entries:
        log.append(one)
    return log


def read_all(log, name, after=0):
    """Read to the end, page by page."""
    entries = []
    while (page := log.read(name, after)).upto > after:
        entries += page.entries
        after = page.upto
    assert page.entries == ()
    return entries


# --- one order for everybody ---


def test_an_empty_log():
    assert Log().read("bob", 0) == Page((), 0)
    assert Log(7).read("bob", 7) == Page((), 7)


def test_an_entry_without_its_number_is_refused():
    log = filled(entry(5), head=4)
    for seq in (0, 4, 5, 7):
        with pytest.raises(ValueError, match=f"entry {seq} after 5"):
            log.append(entry(seq))
    log.append(entry(6))
    assert log.head == 6


def test_each_name_gets_its_letters_and_the_posts_of_others_in_order():
    sent = [entry(1), direct(2), direct(3, to="carol"), entry(4, sender="Bob"), direct(5), entry(6, sender="carol")]
    log = filled(*sent)
    assert log.read("bob", 0) == Page((sent[0], sent[1], sent[4], sent[5]), 6)
    assert log.read("bob", 2) == Page((sent[4], sent[5]), 6)
    assert log.read("carol", 0) == Page((sent[0], sent[2], sent[3]), 6)
    assert log.read("alice", 0) == Page((sent[3], sent[5]), 6)


def test_a_position_passes_what_is_not_for_the_name():
    log = filled(direct(1), direct(2), entry(3, sender="carol"))
    assert log.read("carol", 0) == Page((), 3)


def test_what_is_dropped_is_below_the_floor():
    log = filled(direct(1), entry(2), direct(3), entry(4))
    log.drop(2)
    assert (log.floor, log.head) == (2, 4)
    assert log.read("bob", 2) == Page((direct(3), entry(4)), 4)
    log.drop(1)
    assert log.floor == 2
    log.drop(4)
    assert log.read("bob", 4) == Page((), 4)
    log.append(entry(5))


def test_the_size_is_that_of_the_bodies_that_are_here():
    log = filled(direct(1, body=b"12345"), *[entry(seq, body=b"123") for seq in range(2, 7)])
    assert log.size == 5 + 5 * 3
    log.drop(4)
    assert log.size == 2 * 3
    log.drop(6)
    assert log.size == 0


def test_what_was_taken_too_long_ago_is_dropped_up_to_the_first_that_was_not():
    times = [101.0, 102.0, 109.0, 104.0, 110.0]
    sent = [direct(1), entry(2), direct(3, to="carol"), entry(4), entry(5)]
    log = filled(*[attrs.evolve(one, taken_at=at) for one, at in zip(sent, times, strict=True)])
    log.drop_older(105.0)
    assert (log.floor, log.head) == (2, 5)
    log.drop_older(111.0)
    assert (log.floor, log.size) == (5, 0)


def test_wrong_times_are_set_back():
    log = filled(direct(1), *[entry(seq) for seq in range(2, 7)])
    assert log.read("bob", 0).entries[-1].taken_at == 106.0
    log.date_back(103.5)
    assert [one.taken_at for one in log.read("bob", 0).entries] == [101.0, 102.0, 103.0, 103.5, 103.5, 103.5]


# --- what comes for many names at one position is found once ---


def test_names_at_one_position_share_a_page():
    log = filled(*[entry(seq) for seq in range(1, 4)])
    assert log.read("bob", 1).entries is log.read("carol", 1).entries


def test_a_shared_page_has_no_own_posts():
    log = filled(entry(1, sender="Alice"), entry(2, sender="dave"), entry(3, sender="Alice"))
    assert log.read("bob", 0) == Page((entry(1, sender="Alice"), entry(2, sender="dave"), entry(3, sender="Alice")), 3)
    assert log.read("alice", 0) == Page((entry(2, sender="dave"),), 3)
    assert log.read("dave", 0) == Page((entry(1, sender="Alice"), entry(3, sender="Alice")), 3)


def test_a_shared_page_has_nobodys_letters():
    log = filled(entry(1), direct(2, to="bob"))
    assert log.read("carol", 0) == Page((entry(1),), 2)
    assert log.read("bob", 0) == Page((entry(1), direct(2, to="bob")), 2)
    assert log.read("carol", 0) == Page((entry(1),), 2)


def test_a_shared_page_ends_with_the_next_entry_and_with_what_is_dropped():
    log = filled(entry(1))
    assert log.read("bob", 0) == Page((entry(1),), 1)
    log.append(entry(2))
    assert log.read("bob", 0) == Page((entry(1), entry(2)), 2)
    log.append(direct(3, to="carol"))
    assert log.read("bob", 0).upto == 3, "the position passes a letter for others"
    assert log.read("bob", 2) == Page((), 3)
    log.drop(2)
    assert log.read("bob", 2) == Page((), 3)


def test_a_shared_page_that_is_full_ends_where_it_is_full():
    sent = [entry(seq, sender="alice" if seq % 3 else "dave", body=b"x" * 9000) for seq in range(1, 10)]
    log = filled(*sent)
    page = log.read("bob", 0)
    assert page.entries is log.read("carol", 0).entries
    assert page.upto == page.entries[-1].seq < 9
    assert read_all(log, "bob") == read_all(log, "carol") == sent
    assert read_all(log, "dave") == [one for one in sent if one.sender == "alice"]
    assert read_all(log, "alice") == [one for one in sent if one.sender == "dave"]


@hypothesis.given(
    st.lists(st.tuples(st.sampled_from(EntryKind), st.sampled_from(["Alice", "bob"]), st.integers(0, 9000))),
    st.lists(st.tuples(st.sampled_from(["alice", "bob", "carol"]), st.integers(0, 30)), max_size=9),
)
def test_a_page_is_the_same_whoever_has_read_before(kinds, reads):
    sent = [entry(seq, kind, sender=sender, body=b"x" * size) for seq, (kind, sender, size) in enumerate(kinds, 1)]
    log = filled(*sent)
    for name, after in reads:
        assert log.read(name, after) == filled(*sent).read(name, after)


# --- rooms ---


def test_who_is_in_rooms_gets_their_posts_and_those_to_everyone_in_order():
    sent = [to(LUNCH, 1), entry(2), to(WORK, 3), direct(4), to(LUNCH, 5, sender="carol"), to(TEA, 6), entry(7)]
    log = filled(*sent)
    assert log.read("bob", 0) == Page((sent[1], sent[3], sent[6]), 7)
    assert log.read("bob", 0, {LUNCH: 0, WORK: 0}) == Page((*sent[:5], sent[6]), 7)
    assert log.read("bob", 3, {WORK: 0, LUNCH: 0}) == Page((*sent[3:5], sent[6]), 7)
    assert log.read("carol", 0, {LUNCH: 0}) == Page((sent[0], sent[1], sent[6]), 7), "no own posts"
    assert log.read("bob", 7, {LUNCH: 0}) == Page((), 7)


def test_who_has_joined_gets_what_comes_after_it_wherever_their_position_is():
    sent = [to(LUNCH, 1), entry(2), to(LUNCH, 3, kind=EntryKind.JOINED, sender="bob"), to(LUNCH, 4), to(WORK, 5)]
    log = filled(*sent)
    assert log.read("bob", 0, {LUNCH: 3}) == Page((sent[1], sent[3]), 5)
    assert log.read("bob", 0, {LUNCH: 3, WORK: 0}) == Page((sent[1], sent[3], sent[4]), 5)
    assert log.read("bob", 4, {LUNCH: 3}) == Page((), 5)
    assert log.read("bob", 0, {LUNCH: 5, WORK: 5}) == Page((sent[1],), 5)
    assert log.read("carol", 0, {LUNCH: 0}).entries == (*sent[:4],), "somebody who was in it sees who joins"


def test_members_at_one_position_share_a_page_if_the_same_rooms_have_something():
    log = filled(to(LUNCH, 1), entry(2), to(LUNCH, 3))
    page = log.read("bob", 0, {LUNCH: 0})
    assert page.entries is log.read("carol", 0, {LUNCH: 0, WORK: 0}).entries, "there is nothing in the other room"
    assert log.read("dave", 0).entries == (entry(2),), "without the room it is another page"
    assert log.read("dave", 0).entries is log.read("erin", 0, {WORK: 0}).entries
    assert log.read("bob", 0, {LUNCH: 0}).entries is page.entries
    assert log.read("frank", 0, {LUNCH: 1}).entries == (entry(2), to(LUNCH, 3)), "nor after having joined later"
    assert log.read("bob", 1, {LUNCH: 1}).entries is log.read("frank", 1, {LUNCH: 0}).entries, "before the position"


def test_a_shared_page_of_rooms_has_no_own_posts():
    sent = [to(LUNCH, 1, sender="Bob"), to(WORK, 2, sender="carol"), to(LUNCH, 3)]
    log, both = filled(*sent), {LUNCH: 0, WORK: 0}
    assert log.read("dave", 0, both) == Page(tuple(sent), 3)
    assert log.read("bob", 0, both) == Page((sent[1], sent[2]), 3)
    assert log.read("carol", 0, both) == Page((sent[0], sent[2]), 3)


def test_an_epoch_comes_to_its_sender_too():
    """They may have lost the key of the room. Their posts do not come to them."""
    sent = [to(LUNCH, 1, kind=EntryKind.EPOCH), to(LUNCH, 2), to(LUNCH, 3, kind=EntryKind.EPOCH, sender="bob")]
    log = filled(*sent)
    assert log.read("alice", 0, {LUNCH: 0}) == Page((sent[0], sent[2]), 3)
    assert log.read("bob", 0, {LUNCH: 0}) == Page(tuple(sent), 3)
    assert log.read("alice", 2, {LUNCH: 0}).entries is log.read("bob", 2, {LUNCH: 0}).entries, "it is shared"


def test_a_shared_page_is_not_for_the_sender_of_the_post_behind_it():
    """For them the page does not end there."""
    sent = [to(LUNCH, seq, sender="bob" if seq == 3 else "alice", body=b"x" * 11_000) for seq in (1, 2, 3)]
    log = filled(*sent)
    assert log.read("carol", 0, {LUNCH: 0}) == Page((sent[0], sent[1]), 2)
    assert log.read("bob", 0, {LUNCH: 0}) == Page((sent[0], sent[1]), 3)


def test_a_room_whose_posts_were_dropped_has_nothing():
    log = filled(to(LUNCH, 1), to(WORK, 2), to(LUNCH, 3))
    log.drop(2)
    assert log.read("bob", 2, {LUNCH: 0, WORK: 0}) == Page((to(LUNCH, 3),), 3)
    log.drop(3)
    log.append(to(WORK, 4))
    assert log.read("bob", 3, {LUNCH: 0, WORK: 0}) == Page((to(WORK, 4),), 4)


@hypothesis.given(
    st.lists(
        st.tuples(
            st.sampled_from(["bob", EVERYONE, LUNCH, WORK]), st.sampled_from(["Alice", "bob"]), st.integers(0, 9000)
        ),
        max_size=30,
    ),
    st.lists(
        st.tuples(
            st.sampled_from(["alice", "bob", "carol"]),
            st.integers(0, 30),
            st.dictionaries(st.sampled_from([LUNCH, WORK, TEA]), st.integers(0, 30)),
        ),
        max_size=9,
    ),
)
def test_whoever_has_read_before_somebody_in_rooms_gets_what_is_for_them(sent, reads):
    entries = [to(room, seq, sender=sender, body=b"x" * size) for seq, (room, sender, size) in enumerate(sent, 1)]
    log = filled(*entries)
    for name, after, rooms in reads:
        begins = {EVERYONE: 0, name: 0, **rooms}
        expected = [
            one
            for one in entries
            if one.seq > max(after, begins.get(one.recipient, log.head))
            and (one.recipient == name or one.sender.lower() != name)
        ]
        assert log.read(name, after, rooms) == first_batch(expected, log.head)


# --- posts that are no longer kept ---


def test_the_same_posts_make_the_same_notice():
    notice = missed_posts("Bob", [EVERYONE], 12, 3, 20)
    assert notice == missed_posts("Bob", [EVERYONE], 12, 3, 20)
    assert (notice.seq, notice.kind, notice.sender, notice.recipient) == (20, EntryKind.MISSED, "Bob", "bob")
    assert (notice.key, notice.body) == (NO_KEY, b"12")
    rooms = ([EVERYONE], [LUNCH], [WORK], [EVERYONE, LUNCH], [LUNCH, WORK])
    others = [missed_posts("Bob", [EVERYONE], 12, 3, 21), missed_posts("Bob", [EVERYONE], 12, 4, 20)]
    others += [missed_posts("Bob", one, 12, 3, 20) for one in rooms[1:]]
    assert len({one.id for one in (notice, *others)}) == 7, "a client tells them apart by their ids"
    assert missed_posts("Bob", [WORK, LUNCH], 12, 3, 20) == others[-1], "in whatever order"


@pytest.mark.parametrize(("rooms", "body"), [([LUNCH], f"7 {LUNCH}"), ([EVERYONE], "7"), ([EVERYONE, LUNCH], "7")])
def test_a_notice_says_which_room_it_was_if_it_was_one_alone(rooms, body):
    notice = missed_posts("bob", rooms, 7, 1, 9)
    assert notice.body == body.encode()
    assert room_of(notice) == (rooms[0] if len(rooms) == 1 else EVERYONE)


def test_which_room_an_entry_is_about():
    assert room_of(to(LUNCH, 1)) == LUNCH
    assert room_of(to(LUNCH, 1, kind=EntryKind.LEFT)) == LUNCH
    assert room_of(removed_from(LUNCH, "Bob", to(LUNCH, 1, kind=EntryKind.EPOCH))) == LUNCH
    assert room_of(entry(1)) == EVERYONE
    assert room_of(direct(1)) == EVERYONE
    assert room_of(direct(1, body=f"7 {LUNCH}".encode())) == EVERYONE, "of a letter, the body is no notice"
    assert room_of(entry(1, EntryKind.MISSED, body=b"\xff #")) == "#", "of a damaged one, anything"


# --- batches ---


def test_a_batch_has_at_least_one_entry_and_at_most_24_kib():
    size = BATCH_BYTES // 2 - ENTRY_OVERHEAD
    assert first_batch([], 9) == Page((), 9)
    assert first_batch([entry(1, body=b"x" * MAX_BODY), entry(2)], 9).upto == 9
    two = [entry(1, body=b"x" * size), entry(2, body=b"x" * size)]
    assert first_batch(two, 9) == Page(tuple(two), 9)
    assert first_batch([two[0], entry(2, body=b"x" * (size + 1))], 9) == Page((two[0],), 1)


def test_a_batch_has_as_many_letters_as_its_answer_has_receipts():
    letters = [direct(seq) for seq in range(1, MAX_RECEIPTS + 1)]
    assert first_batch(letters, 99) == Page(tuple(letters), 99)
    assert first_batch([*letters, direct(50)], 99) == Page(tuple(letters), MAX_RECEIPTS)
    assert first_batch([*letters, entry(50)], 99).upto == 99, "a post needs no receipt"


def test_a_batch_has_a_limit_of_entries(monkeypatch):
    monkeypatch.setattr(log_module, "ENTRY_OVERHEAD", 0)
    posts = [entry(seq, body=b"") for seq in range(1, MAX_BATCH + 2)]
    assert first_batch(posts[:-1], 99) == Page(tuple(posts[:-1]), 99)
    assert first_batch(posts, 99) == Page(tuple(posts[:-1]), MAX_BATCH)


def test_no_more_is_read_than_one_entry_beyond_the_batch():
    def endless():
        for seq in range(1, 1000):
            looked_at.append(seq)
            yield direct(seq)

    looked_at = []
    assert len(first_batch(endless(), 999).entries) == MAX_RECEIPTS
    assert len(looked_at) == MAX_RECEIPTS + 1


@pytest.mark.parametrize("size", [0, 1, 1000, MAX_BODY])
@pytest.mark.parametrize("kind", [EntryKind.DIRECT, EntryKind.GROUP])
def test_the_largest_batch_can_be_sent(kind, size):
    sender, credentials = "a" * 32, Credentials(PublicKeys(KEY, KEY), KEY * 2)
    page = first_batch([entry(seq, kind, sender=sender, to="b" * 32, body=b"x" * size) for seq in range(1, 99)], 99)
    entries = tuple(attrs.evolve(one, seq=2**53 - one.seq) for one in page.entries)
    batch = Batch(bytes(16), "b" * 32, entries, ((sender, credentials),) * len(entries))
    OutgoingRequest(Batch.kind, batch.id, encode(batch))


# --- requests ---


def test_a_request_is_its_recipient_and_its_body():
    first = direct(1)
    assert request_hash(first) == request_hash(attrs.evolve(first, seq=2, taken_at=7.0, sender="ALICE", id=bytes(16)))
    others = [direct(1, to="carol"), direct(1, body=b"ho"), direct(1, to="bo", body=b"b hi"), entry(1)]
    assert len({request_hash(one) for one in (first, *others)}) == 5


def test_a_request_is_looked_up_by_its_kind_key_and_id():
    first = request_number(b"direct", KEY, bytes(16))
    others = [(b"group", KEY, bytes(16)), (b"direct", KEY[::-1], bytes(16)), (b"direct", KEY, bytes(15) + b"1")]
    assert len({first, *[request_number(*one) for one in others]}) == 4
    assert first == 6632423194921169384, "it must stay as it is: it is in files"


# --- any log ---


@hypothesis.given(
    st.lists(st.tuples(st.sampled_from(EntryKind), st.sampled_from(["alice", "bob"]), st.integers(0, 9000))),
    st.integers(0, 30),
)
def test_a_reader_gets_each_entry_once_wherever_pages_end(kinds, after):
    sent = [entry(seq, kind, sender=sender, body=b"x" * size) for seq, (kind, sender, size) in enumerate(kinds, 1)]
    expected = [one for one in sent if one.seq > after and (one.recipient or one.sender != "bob")]
    assert read_all(filled(*sent), "bob", after) == expected
