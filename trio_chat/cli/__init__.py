"""The command line. Each command is declared in main.py; its program has a module of its own.

main.py           the arguments and help texts
running.py        runs a program, catches its errors
arguments.py      how single arguments are read: ports, hosts, fingerprints, friends
exit_codes.py     the exit codes, and which error leads to which
keys.py           where keys and stores are kept; `fingerprint`
client.py         `client`, with or without a terminal, and its options
send.py           `send`: one message
send_queue.py     `send --queue`: one message, which waits until it is sent
server.py         `server`
operator.py       `server who`, `server ban` and the like: the arguments of the commands for a server that runs
asking.py         what these ask, and what they print
table_printer.py  what `server` prints of its table
log_printer.py    log lines of a server that must not block
servers.py        `servers`: which are on the local network
presence.py       `presence` and `friends`
demo.py           `demo`: a conversation that runs by itself
"""
