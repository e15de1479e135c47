"""The whole system in one process and in virtual time, under random faults from a seed; see world.py, invariants.py."""
