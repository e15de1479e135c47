"""The client, with windows that are ten times as long. It makes as many attempts as ever before it gives up.

For tests in which something is done to the server meanwhile: datagrams that are lost cost attempts, but a server that
gets little of a busy machine does not.
"""

import sys

from trio_chat.cli.main import main
from trio_chat.client import registration
from trio_chat.transport import endpoint, windows

WINDOW = 10 * windows.ACK_WINDOW
WINDOW_PAUSES = tuple(10 * pause for pause in windows.WINDOW_PAUSES)


def use_long_windows(set_attribute=setattr):
    """In this process, from now on. `set_attribute`: one that undoes it, such as `monkeypatch.setattr`."""
    for module in (windows, endpoint, registration):
        set_attribute(module, "ACK_WINDOW", WINDOW)
    set_attribute(windows, "WINDOW_PAUSES", WINDOW_PAUSES)


if __name__ == "__main__":
    use_long_windows()
    sys.exit(main())
