"""The client library: `open_chat` and what it tells its user. Knows nothing of the server or the console."""
