"""Sealed links between two parties: Noise handshakes, sessions, cookies. Pure."""
