"""The client library. It uses neither the server's code nor a terminal.

chat           `open_chat` and `Chat`, and the tasks of a client
context        the objects that the parts of one client share
registration   discovering the server, registering, heartbeats, the table
direct_sender  messages that go directly
letter_sender  messages that go by the server
rooms          requests about rooms, and messages to them
memberships    which rooms we are in, as far as we know
inbox          messages and letters that arrive, and their receipts
key_pins       which key belongs to whom
block_list     whom we block
event_queue    the events that wait for the user
events         the classes of the events
"""
