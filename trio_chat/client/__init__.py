"""The client library. It uses neither the server's code nor a terminal.

opening        `open_chat`
search         servers on the local network
chat           `Chat`, and the tasks of a client
context        the objects that the parts of one client share
registration   discovering the server, registering, heartbeats, the table
own_address    where this client is, and whether routers are on the way
people         who is there, of whom the table does not know
direct_sender  messages that go directly
letter_sender  messages that go by the server
outbox         messages that wait to be sent, and when they are
early_outbox   the same before there is a chat: messages are only kept
outbox_attempts  one attempt to send one of these
outbox_news    what the user is told of these
outgoing_queue  the queues of the outbox, and when something is tried again
rooms          requests about rooms, and messages to them
room_requests  asking the server about rooms
private_rooms  what only private rooms have: owners, new keys, sealed messages
epochs         who is in our private rooms, and their keys, as far as we believe it
members_changes  what an epoch changes
memberships    which rooms we are in, as far as we know
inbox          messages and letters that arrive, and their receipts
second_texts   warnings of another text under a known id
kept_notices   telling senders that their direct messages are on our disk
entry_events   entries as events
key_pins       which key belongs to whom
block_list     whom we block
event_queue    the events that wait for the user
events         the classes of the events
"""
