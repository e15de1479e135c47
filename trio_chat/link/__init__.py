"""Sealed links between two parties. Pure: time, random bytes and datagrams are handed in.

links.py      all links of one party: which handshake or session a datagram belongs to
events.py     what follows from a datagram
hellos.py     the keys of a server, and programs of other versions
packets.py    the layout of the datagrams
cookies.py    proof of an address, and rates, before a handshake costs anything
handshake.py  the Noise handshake: messages in, keys out
pending.py    handshakes that are not finished yet
sessions.py   the table of sessions: which one is used, which one ends
session.py    one session: sealing, opening, the replay window
"""
