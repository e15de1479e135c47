"""The server: tasks and sockets around the decisions of server/service.py. Knows nothing of the client."""
