"""Windows: how long an attempt waits for its answer, when it is sent again meanwhile, and how many attempts there are.

What is sent, and what counts as an answer, is in endpoint.py.
"""

from collections.abc import Awaitable, Callable

import trio

ACK_WINDOW = 0.5
"""The ACK timeout in seconds (500 ms): how long one attempt waits for its acknowledgement."""

SERVER_ATTEMPTS = 5
"""How many attempts, each with a window, are made before the server counts as silent."""

RESEND_DELAYS = (0.1, 0.15)
"""Seconds before each retransmission of a request inside its window: so at 100 and at 250 ms."""

WINDOW_PAUSES = (*RESEND_DELAYS, ACK_WINDOW - sum(RESEND_DELAYS))
"""Seconds after each transmission in a window. They make up the window: a scope around it would cost as much as all
else that is waited for in it."""

LINK_STEPS = 2
"""How often the windows of a request begin again, at most, because the handshake has just come a step further: a peer
answers an INIT with a cookie, and the INIT with that cookie with a session."""


def windows_for(round_trip: float) -> int:
    """How many windows a request needs besides its own to a peer that is so many seconds away, there and back."""
    return round(round_trip / ACK_WINDOW)


async def send_until(
    answered: Callable[[], Awaitable[None]],
    send: Callable[[], Awaitable[None]],
    attempts: int,
    on_pause: Callable[[], object] = lambda: None,
) -> bool:
    """Make an attempt in each of `attempts` windows: send, and again after each of RESEND_DELAYS inside it.

    Returns True when `answered` returns, or False after the last window. All attempts of a request are counted here.
    `on_pause` is called after each pause in which no answer has come.
    """
    for _ in range(attempts):
        for pause in WINDOW_PAUSES:
            await send()
            with trio.move_on_after(pause):
                await answered()
                return True
            on_pause()
    return False
