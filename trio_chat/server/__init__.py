"""The chat server. Nothing here uses the client.

server    serve_chat(): tasks and sockets, registrations, the table
service   its decisions (pure), and who is online; moderation: what the operator has decided
control   the operator's commands: the socket; operations: what they do
delivery  the delivery loop of each session
"""
