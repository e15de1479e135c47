"""The client, with windows that are ten times as long. It makes as many attempts as ever before it gives up.

For tests in which something is done to the server meanwhile: datagrams that are lost cost attempts, but a server that
gets little of a busy machine does not.
"""

import sys

from trio_chat.cli.main import main
from trio_chat.client import registration
from trio_chat.transport import endpoint

WINDOW = 10 * endpoint.ACK_WINDOW


def use_long_windows(set_attribute=setattr):
    """In this process, from now on. `set_attribute`: one that undoes it, such as `monkeypatch.setattr`."""
    for module in (endpoint, registration):
        set_attribute(module, "ACK_WINDOW", WINDOW)


if __name__ == "__main__":
    use_long_windows()
    sys.exit(main())
