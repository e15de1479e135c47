"""The command line: main.py has the arguments and exit codes, each other module one command."""
