"""Whether the server's clock can be believed when it says that something is old (pure).

What is removed is gone for good, and a clock may be wrong for a second or from the start. So nothing is removed until
the wall clock and the monotonic clock have agreed for an hour.
"""

from trio_chat.protocol.records import RETENTION

AGREEMENT = 3600.0
"""Seconds for which the clocks must have agreed."""

TOLERANCE = 10.0
"""Seconds by which they may drift apart between two looks: more means that the wall clock was set."""


class RetentionClock:
    """Compares the clocks each time it is asked. `wall`: seconds since 1970, UTC; `now`: monotonic seconds."""

    def __init__(self, wall: float, now: float) -> None:
        self._offset = wall - now
        self._agree_since = now
        self.was_set_forward = False
        """Whether the last look found the wall clock set forward: what was taken before it may look too old."""

    def oldest_kept(self, wall: float, now: float) -> float | None:
        """What was taken before this time is too old; None while the clock is not believed."""
        self.was_set_forward = wall - now > self._offset + TOLERANCE
        if abs(wall - now - self._offset) > TOLERANCE:
            self._agree_since = now
        # The new difference counts from now on: a clock that is corrected little by little is never set.
        self._offset = wall - now
        return wall - RETENTION if now - self._agree_since >= AGREEMENT else None
