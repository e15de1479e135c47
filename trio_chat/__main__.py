"""`python -m trio_chat`, and the command `trio-chat`: the command line, and nothing else."""

import gc
import sys


def start() -> int:
    """Run the command line on sys.argv; return the exit code."""
    # Nothing that is imported becomes garbage: to look for some takes 8 % of the time. cli/running.py enables it again.
    gc.disable()
    try:
        from trio_chat.cli.main import main

        return main()
    except KeyboardInterrupt:  # Ctrl-C while modules are imported
        return 130


if __name__ == "__main__":
    sys.exit(start())
