"""Which rooms we are in, as far as we know."""

from trio_chat.client.memberships import Memberships
from trio_chat.protocol.records import Room

LUNCH = Room("#" + "1" * 32, "lunch", b"k" * 32, 3, joined=5)


def test_a_room_that_we_have_left_stays_left_when_the_server_refuses_what_was_on_its_way_to_it():
    own = Memberships()
    own.join(LUNCH)
    own.leave(LUNCH.id, "lunch")
    own.doubt()
    assert not own.is_for_us(LUNCH.id, 9)
    own.may_join("Lunch")
    assert own.is_for_us(LUNCH.id, 9), "we are about to be in it again"


def test_where_we_are_is_not_known_when_the_server_refuses_a_post_as_of_somebody_who_is_not_there():
    own = Memberships()
    own.join(LUNCH)
    own.complete([LUNCH])
    own.doubt()
    assert own.find("lunch") is None
    assert not own.is_complete
    assert own.is_for_us(LUNCH.id, 2), "we may have joined again meanwhile"


def test_another_program_of_ours_may_have_joined_what_this_one_has_left():
    own = Memberships()
    own.leave(LUNCH.id, "lunch")
    own.forget()
    assert own.is_for_us(LUNCH.id, 2)
