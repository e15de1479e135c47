"""Datagrams and requests over them: the only place that knows about sockets, windows and attempts."""
