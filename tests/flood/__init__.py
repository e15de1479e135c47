"""Real attackers, a real server and real clients on this machine: `python -m tests.flood.run`, or `nox -s flood`.

server.py     the server, with its usual limits or with none
attackers.py  a process that floods it
run.py        measures what the server, newcomers and neighbours notice, and prints a table
"""
