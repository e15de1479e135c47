"""Who is there, told over TCP in JSON: server.py, client.py, the roster between them, the form of what is said."""
