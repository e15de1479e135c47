"""The exit codes of the commands, and how the error that ends a command is reported.

The errors are caught in cli/running.py.
"""

import signal
from typing import Literal

from trio_chat import errors

DONE, FAILED, REFUSED, SAVED, QUEUED = 0, 1, 2, 3, 4
BY_SIGNAL = 128
"""Added to the number of the signal that ended a program, as a shell reports it."""
INTERRUPTED = BY_SIGNAL + signal.SIGINT

Report = Literal["screen", "stderr", "raise", "nothing"]
"""On the screen, in the user's wording; as one line on standard error; by raising the error again; not at all."""

_BY_IMPORTANCE: tuple[tuple[type[BaseException], int, Report], ...] = (
    # Most likely the output has failed. Then nothing else can be reported there.
    (OSError, FAILED, "raise"),
    # Whatever else failed may have failed because of it.
    (errors.StoreFailed, FAILED, "stderr"),
    (errors.NameTaken, REFUSED, "screen"),
    (errors.ServerKeyChanged, REFUSED, "screen"),
    (errors.ServerTooOld, REFUSED, "screen"),
    (errors.ServerTooNew, REFUSED, "screen"),
    # The user went on in another program: nothing is wrong.
    (errors.SignedInElsewhere, DONE, "screen"),
    (errors.PresenceLost, FAILED, "stderr"),
    (errors.ServerNotResponding, FAILED, "screen"),
    # After its subclasses: an argument or a file that cannot be used.
    (errors.ChatError, REFUSED, "stderr"),
    # Last: if an error happened at the same moment, the user should see that error.
    (KeyboardInterrupt, INTERRUPTED, "screen"),
)


def most_important(group: BaseExceptionGroup) -> tuple[BaseException, int, Report]:
    """Of the errors that ended a program: the most important one, its exit code, and how it is reported."""
    for kind, code, report in _BY_IMPORTANCE:
        error: BaseException | None = group.subgroup(kind)
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if error is not None:
            return error, code, report
    raise group
