"""Kill -9 in the middle of the mail: a play with real processes, and the count of what came of it."""
