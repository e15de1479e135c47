"""`python -m trio_chat`: the command line, and nothing else."""

import sys

from trio_chat.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
