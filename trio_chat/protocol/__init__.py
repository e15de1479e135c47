"""The messages and the state behind them. Pure: no trio, sockets, clock, disk, logging or randomness.

records.py       what messages contain: names, keys, times, table rows, letters, with their bounds
messages.py      requests and answers
wire.py          messages as bytes
parts.py         long requests as several datagrams
duplicates.py    which requests were seen, and what they were answered
table.py         the client table: the server's, and the copy of each client
limits.py        how much one key or one address may use
token_buckets.py rate limits
shares.py        what all share
"""
