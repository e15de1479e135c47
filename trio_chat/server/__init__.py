"""The chat server. Nothing here uses the client.

server    serve_chat(): tasks and sockets, registrations, the table
service   its decisions (pure), and who is online
delivery  the delivery loop of each session
"""
