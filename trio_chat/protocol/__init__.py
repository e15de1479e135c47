"""The messages and the state behind them. Pure: no trio, sockets, clock, disk, logging or randomness.

records        what messages contain: names, keys, times, table rows, entries, rooms, with their bounds
message_base   what all messages have in common
messages       requests and answers
room_messages  those about rooms
wire           messages as bytes
frames         several messages in one datagram
epochs         who is in a private room, and its key, from one change to the next
parts          long requests as several datagrams
duplicates     which requests were seen, and what they were answered
table          the client table: the server's, and the copy of each client
log            the server's log: what comes for whom, in which batches
limits         how much one key or one address may use
token_buckets  rate limits
shares         what all share
"""
