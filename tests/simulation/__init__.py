"""The whole system in one process and in virtual time, under faults that a seed draws; see world.py and books.py."""
