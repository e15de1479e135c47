"""Fuzzing of what faces the network."""
