"""The requests and answers of the presence service: their JSON objects, and the bounds of what is in them.

Who is online is in roster.py; when something is sent is decided in server.py.
"""

import json
import re
from functools import lru_cache
from typing import TypeGuard

import attrs

from trio_chat.protocol.records import NAME, fold

Friend = int | str
"""A user of the presence service, by number, or one of the chat, by name."""

MAX_FRIENDS = 1000
MAX_USER_ID = 2**63 - 1

NOT_A_REQUEST, INVALID_ID, OWN_FRIEND, TOO_MANY = 3, 5, 6, 7

STILL_THERE = b'{"msg": "are you still there?", "error": 0}'
"""The answer when nothing has changed."""


class Refusal(Exception):
    """A request that is answered with an error. The connection is closed after it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


@attrs.frozen
class Watch:
    """A request: who asks, and the friends to watch. `push`: changes are sent immediately, one object a line."""

    user_id: int
    friends: tuple[Friend, ...]
    push: bool = False


@attrs.frozen
class FriendChanged:
    """A friend is online or offline now. `user_id` is the friend as written in the request."""

    user_id: Friend
    online: bool


def fold_friend(friend: Friend) -> Friend:
    """The form in which friends are compared: names as in the chat, so `Bob` and `bob` are one."""
    return fold(friend) if isinstance(friend, str) else friend


def _is_user_id(given: object) -> bool:
    return type(given) is int and 1 <= given <= MAX_USER_ID  # not isinstance: True is an int


def _is_friend(given: object) -> TypeGuard[Friend]:
    return re.match(NAME, given) is not None if isinstance(given, str) else _is_user_id(given)


def parse_watch(fields: dict[str, object]) -> Watch:
    """The request in a JSON object. Unknown fields are ignored.

    Raises Refusal: code 3 for a wrong form, 5 for an invalid user or friend, 6 for oneself as a friend.
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


@lru_cache(maxsize=1024)  # a change is encoded once for all its watchers
def encode_news(friend: Friend, online: bool) -> bytes:
    """One change as a line."""
    who = friend if isinstance(friend, int) else f'"{friend}"'  # no character of a NAME needs an escape
    return f'{{"online": {"true" if online else "false"}, "user_id": {who}}}\n'.encode()


def encode_refusal(refused: Refusal) -> bytes:
    """The bytes of an error."""
    return json.dumps({"msg": f"[server] {refused.text}", "error": refused.code}).encode()


def parse_answer(fields: dict[str, object]) -> FriendChanged | None:
    """The change in an answer; None for STILL_THERE, and for answers that only newer servers know.

    Raises Refusal with the server's code and text.
    """
    match fields:
        case {"online": bool(online), "user_id": friend} if _is_friend(friend):
            return FriendChanged(friend, online)
        case {"error": int(code), "msg": str(text)} if code:
            raise Refusal(code, text)
        case _:
            return None
