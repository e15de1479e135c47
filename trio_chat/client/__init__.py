"""The client library. It uses neither the server's code nor a terminal.

chat.py: `open_chat` and `Chat`: sending, and the tasks of a client
context.py: the objects that the parts of one client share
registration.py: discovering the server, registering, heartbeats, the table
inbox.py: messages and letters that arrive, and their receipts
key_pins.py: which key belongs to whom
event_queue.py: the events that wait for the user
events.py: the classes of the events
"""
