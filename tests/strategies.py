"""Hypothesis strategies for all that is said: `requests()`, `answers()`, `messages()`, and what they are made of.

Every value is legal: what is not is made by hand where it is tested.
"""

from typing import get_args

import hypothesis.strategies as st

from trio_chat.protocol.messages import (
    ANSWERS,
    REQUESTS,
    Accepted,
    Ack,
    Busy,
    Chat,
    Delivered,
    Deregister,
    Deregistered,
    GroupPost,
    Heartbeat,
    Held,
    Letters,
    Message,
    Part,
    PartAck,
    Refused,
    Register,
    Registered,
    Save,
    Saved,
    TableChange,
)
from trio_chat.protocol.records import MAX_PARTS, MAX_TEXT, Letter, LetterKind, Reason, Record, Version

__all__ = ["MESSAGES", "answers", "ids", "letters", "messages", "names", "of_kind", "records", "requests", "texts"]

MESSAGES = get_args(Message)
"""Every class of message."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def ids() -> st.SearchStrategy[bytes]:
    return st.binary(min_size=16, max_size=16)


def names() -> st.SearchStrategy[str]:
    return st.builds(str.__add__, st.sampled_from(LETTERS), st.text(LETTERS + "_.-", max_size=31))


def hosts() -> st.SearchStrategy[str]:
    return st.ip_addresses().map(str)


def times() -> st.SearchStrategy[float]:
    return st.floats(0, 253_402_300_799)


def texts(min_size: int = 1) -> st.SearchStrategy[str]:
    """Texts of all lengths up to the longest, in characters of one to four bytes."""
    short = st.text(st.characters(codec="utf-8"), min_size=min_size, max_size=50)
    long = st.builds(_cut, short.filter(bool), st.integers(1, MAX_TEXT))
    return short | long


def _cut(pattern: str, size: int) -> str:
    whole = pattern.encode() * (size // len(pattern.encode()) + 1)
    return whole[:size].decode(errors="ignore") or "."


def counts() -> st.SearchStrategy[int]:
    return st.integers(0, 2**53)


def versions() -> st.SearchStrategy[Version]:
    return st.builds(Version, st.binary(min_size=8, max_size=8), counts())


def records() -> st.SearchStrategy[Record]:
    return st.builds(Record, names(), hosts(), st.integers(1, 65535), st.booleans(), times())


def letters() -> st.SearchStrategy[Letter]:
    return st.builds(Letter, st.sampled_from(LetterKind), ids(), names(), times(), texts(min_size=0), counts())


def parts() -> st.SearchStrategy[Part]:
    def of_count(count: int) -> st.SearchStrategy[Part]:
        body = st.binary(min_size=1, max_size=1100)
        return st.builds(Part, _kinds(), ids(), st.integers(0, count - 1), st.just(count), body)

    return st.integers(2, MAX_PARTS).flatmap(of_count)


def _kinds() -> st.SearchStrategy[int]:
    return st.integers(1, 127)


_OF_CLASS: dict[type, st.SearchStrategy[Message]] = {
    Register: st.builds(Register, ids(), names()),
    Deregister: st.builds(Deregister, ids()),
    Chat: st.builds(Chat, ids(), names(), names(), texts()),
    Save: st.builds(Save, ids(), names(), texts()),
    GroupPost: st.builds(GroupPost, ids(), texts()),
    Letters: st.builds(Letters, ids(), names(), st.lists(letters(), min_size=1, max_size=64).map(tuple)),
    TableChange: st.builds(TableChange, ids(), versions(), versions(), st.lists(records(), max_size=64).map(tuple)),
    Heartbeat: st.builds(Heartbeat, ids(), names()),
    Ack: st.builds(Ack, _kinds(), ids()),
    Busy: st.builds(Busy, _kinds(), ids()),
    Refused: st.builds(Refused, _kinds(), ids(), st.sampled_from(Reason)),
    Registered: st.builds(Registered, _kinds(), ids(), versions(), counts(), times()),
    Deregistered: st.builds(Deregistered, _kinds(), ids()),
    Delivered: st.builds(Delivered, _kinds(), ids()),
    Saved: st.builds(Saved, _kinds(), ids(), times()),
    Accepted: st.builds(Accepted, _kinds(), ids(), times()),
    Held: st.builds(Held, _kinds(), ids(), st.none() | versions()),
    Part: parts(),
    PartAck: st.builds(PartAck, _kinds(), ids(), st.integers(0, 2**MAX_PARTS - 1)),
}


def of_kind(message_class: type) -> st.SearchStrategy[Message]:
    """Messages of one class."""
    return _OF_CLASS[message_class]


def requests() -> st.SearchStrategy[Message]:
    return st.one_of(*map(of_kind, REQUESTS))


def answers() -> st.SearchStrategy[Message]:
    return st.one_of(*map(of_kind, ANSWERS))


def messages() -> st.SearchStrategy[Message]:
    return st.one_of(*map(of_kind, MESSAGES))
