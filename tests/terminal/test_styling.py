"""What a line is, and the styles in which a terminal shows it."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat import (
    GroupMessageReceived,
    KeyWarning,
    LetterReceived,
    MailboxFull,
    MessageReceived,
    ServerNotResponding,
    TableChanged,
)
from trio_chat.terminal.phrases import Phrase, Wording
from trio_chat.terminal.results import Failed, SignedOn, TableList, TableRow
from trio_chat.terminal.styling import COLOURS, Line, LineStyle, colour_of, mentions, styled
from trio_chat.terminal.wordings import Phrasebook

PHRASEBOOK = Phrasebook(owner="Bob")


def contrast(one, other):
    lighter, darker = sorted([luminance(one), luminance(other)], reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", COLOURS)
def test_names_can_be_read_on_black_and_on_white(colour):
    assert contrast(colour, "#000000") > 4
    assert contrast(colour, "#ffffff") > 4


def test_a_name_has_the_same_colour_always_and_others_mostly_another():
    assert colour_of("alice") == colour_of("Alice") == "#875fff"
    assert {colour_of(f"name{number}") for number in range(200)} == set(COLOURS)


@pytest.mark.parametrize(
    ("line", "style"),
    [
        (PHRASEBOOK.render(MessageReceived("x", "hi"))[0], LineStyle.DIRECT),
        (PHRASEBOOK.render(LetterReceived("x", "hi", 0.0, group=False, first=False))[0], LineStyle.DIRECT),
        (PHRASEBOOK.render(GroupMessageReceived("x", "hi"))[0], LineStyle.GROUP),
        (PHRASEBOOK.render(LetterReceived("x", "hi", 0.0, group=True, first=False))[0], LineStyle.GROUP),
        (PHRASEBOOK.render(SignedOn(0))[0], LineStyle.SYSTEM),
        (Phrasebook(Wording.CHANNEL).render(TableChanged())[0], LineStyle.SYSTEM),
        (PHRASEBOOK.render(Failed(MailboxFull("x")))[0], LineStyle.ERROR),
        (PHRASEBOOK.render(Failed(ServerNotResponding()))[0], LineStyle.ERROR),
        (PHRASEBOOK.render(KeyWarning("x", "old", "new"))[0], LineStyle.WARNING),
        (PHRASEBOOK.render(TableList((TableRow("x", "::1", 9, True, 0.0, "key", False),)))[1], LineStyle.PLAIN),
        (PHRASEBOOK.render(TableList((TableRow("x", "::1", 9, True, 0.0, "key", True),)))[1], LineStyle.WARNING),
    ],
)
def test_every_line_has_its_style(line, style):
    assert line.style is style


def test_direct_messages_ring_and_so_do_letters():
    lines = [
        *PHRASEBOOK.render(MessageReceived("x", "hi")),
        *PHRASEBOOK.render(LetterReceived("x", "hi", 0.0, group=False, first=True)),
        *PHRASEBOOK.render(GroupMessageReceived("x", "hi")),
        *PHRASEBOOK.lines(Phrase.MESSAGE, name="x", text="shown once more"),
    ]
    assert [line.rings for line in lines] == [True, False, True, False, False]


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        ("bob", True),
        ("hi BOB!", True),
        ("bob's turn, or Bob.", True),
        ("@bob: come", True),
        ("(bob)", True),
        ("bobby", False),
        ("kebob", False),
        ("bob-2 and bob.smith and _bob", False),
        ("jim.bob", False),
        ("", False),
    ],
)
def test_a_name_is_mentioned_as_a_word_of_its_own(text, is_named):
    (line,) = PHRASEBOOK.render(GroupMessageReceived("x", text))
    assert mentions(text, "Bob") == line.rings == is_named
    (later,) = PHRASEBOOK.render(LetterReceived("x", text, 0.0, group=True, first=False))
    assert later.rings == is_named


def test_without_an_owner_nobody_is_mentioned():
    assert not Phrasebook().render(GroupMessageReceived("x", "hi bob"))[0].rings


def test_the_name_is_coloured_and_what_is_for_the_reader_is_bold():
    assert styled(PHRASEBOOK.render(MessageReceived("alice", "hi"))[0]) == [("bold #875fff", "alice"), ("bold", ": hi")]
    assert styled(PHRASEBOOK.render(GroupMessageReceived("alice", "hi"))[0]) == [
        ("", "Group Chat "),
        ("bold #875fff", "alice"),
        ("", ": hi"),
    ]
    assert styled(PHRASEBOOK.render(GroupMessageReceived("alice", "hi bob, hi"))[0]) == [
        ("", "Group Chat "),
        ("bold #875fff", "alice"),
        ("bold", ": hi "),
        ("bold reverse", "bob"),
        ("bold", ", hi"),
    ]
    assert styled(PHRASEBOOK.lines(Phrase.RECEIVED, name="alice")[0]) == [
        ("dim", "[Message received by "),
        ("bold #875fff", "alice"),
        ("dim", ".]"),
    ]
    assert styled(Line("just text")) == [("", "just text")]


def test_a_sender_of_our_own_name_does_not_move_the_mark():
    (line,) = PHRASEBOOK.render(GroupMessageReceived("bob", "I, Bob, say"))
    assert ("bold reverse", "Bob") in styled(line)


@given(st.text(), st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z"), st.sampled_from(Phrase), st.booleans())
def test_styles_never_change_the_text(text, name, phrase, has_mention):
    for line in Phrasebook().lines(phrase, name=name, text=text, key=text, pinned=text):
        shown = attrs.evolve(line, mention=name) if has_mention else line
        assert "".join(part for _, part in styled(shown)) == line.text


def test_a_message_of_several_lines_rings_once_and_is_marked_wherever_it_mentions_the_reader():
    first, second, third = PHRASEBOOK.render(GroupMessageReceived("x", "hi\nBob and bob\nbye"))
    assert [line.rings for line in (first, second, third)] == [True, False, False]
    assert ("bold reverse", "Bob") in styled(second)
    assert styled(third) == [("", "              bye")]
