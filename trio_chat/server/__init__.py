"""The server: tasks and sockets around the decisions of protocol/service.py. Knows nothing of the client."""
