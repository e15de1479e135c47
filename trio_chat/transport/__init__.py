"""Datagrams, and requests over them.

udp.py               the UDP socket, and the interface for which tests have a network of their own
multicast.py         the sockets of those who search for a server, and of servers that answer
unix.py              the control socket of a server, and its client
endpoint.py          requests and answers, links, parts
windows.py           how long a request waits for its answer, and when it is sent again
pending_requests.py  the requests that wait for answers
sender.py            sends to peers: what is ready for one of them in the same turn goes together
ids.py               ids for requests
key_queries.py       questions for the keys of a server, and which answer counts
"""
