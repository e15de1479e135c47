"""What the presence service and its clients say to each other: JSON objects and what they mean.

Form and bounds only: who is there is told by the server's roster, and when something is said by its tasks.
"""

import json
import re
from typing import TypeGuard

import attrs

from trio_chat.protocol.records import NAME, fold

__all__ = [
    "MAX_FRIENDS",
    "NOT_A_REQUEST",
    "STILL_THERE",
    "Friend",
    "FriendChanged",
    "Refusal",
    "Watch",
    "encode_news",
    "encode_refusal",
    "encode_request",
    "fold_friend",
    "parse_answer",
    "parse_watch",
]

Friend = int | str
"""A user of the presence service, by number, or one of the chat, by name."""

MAX_FRIENDS = 10_000
MAX_USER_ID = 2**63 - 1

NOT_A_REQUEST, INVALID_ID, OWN_FRIEND = 3, 5, 6

STILL_THERE = b'{"msg": "are you still there?", "error": 0}'
"""The answer when there is no news."""


class Refusal(Exception):
    """A request that is answered by an error, after which the connection closes."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


@attrs.frozen
class Watch:
    """A request: the user who asks, and whose comings and goings it wants. `push`: at once, one object a line."""

    user_id: int
    friends: tuple[Friend, ...]
    push: bool = False


@attrs.frozen
class FriendChanged:
    """A friend came on line, or went off line. `user_id` is what the friend was called in the request."""

    user_id: Friend
    online: bool


def fold_friend(friend: Friend) -> Friend:
    """The form in which friends are compared: names as in the chat, so `Bob` and `bob` are one."""
    return fold(friend) if isinstance(friend, str) else friend


def _is_user_id(given: object) -> bool:
    return type(given) is int and 1 <= given <= MAX_USER_ID  # True is no user


def _is_friend(given: object) -> TypeGuard[Friend]:
    return re.match(NAME, given) is not None if isinstance(given, str) else _is_user_id(given)


def parse_watch(fields: dict[str, object]) -> Watch:
    """The request that a JSON object is; fields that it does not know are skipped.

    Raises Refusal: code 3 for what is no request, 5 for what is no user or friend, 6 for a friend of oneself.
    """
    user_id, friends, push = fields.get("user_id"), fields.get("friends"), fields.get("push", False)
    if type(user_id) is not int or not _is_user_id(user_id):
        raise Refusal(INVALID_ID, "Invalid user id")
    if not isinstance(friends, list) or not isinstance(push, bool):
        raise Refusal(NOT_A_REQUEST, "Not a request: friends is a list, and push is true or false")
    if len(friends) > MAX_FRIENDS:
        raise Refusal(NOT_A_REQUEST, f"You can't have more than {MAX_FRIENDS} friends")
    if not all(map(_is_friend, friends)):
        raise Refusal(INVALID_ID, "Invalid user id of a friend")
    if user_id in friends:
        raise Refusal(OWN_FRIEND, "You can't be friend with yourself")
    return Watch(user_id, tuple(friends), push)


def encode_request(watch: Watch) -> bytes:
    """The bytes of a request."""
    return json.dumps(attrs.asdict(watch)).encode()


def encode_news(friend: Friend, online: bool) -> bytes:
    """The bytes of a piece of news."""
    who = friend if isinstance(friend, int) else f'"{friend}"'  # a name has nothing to escape
    return f'{{"online": {"true" if online else "false"}, "user_id": {who}}}'.encode()


def encode_refusal(refused: Refusal) -> bytes:
    """The bytes of an error."""
    return json.dumps({"msg": f"[server] {refused.text}", "error": refused.code}).encode()


def parse_answer(fields: dict[str, object]) -> FriendChanged | None:
    """The news that an answer brings; None for a mere sign of life, and for what a newer server may say.

    Raises Refusal with what the server said.
    """
    match fields:
        case {"online": bool(online), "user_id": friend} if _is_friend(friend):
            return FriendChanged(friend, online)
        case {"error": int(code), "msg": str(text)} if code:
            raise Refusal(code, text)
        case _:
            return None
