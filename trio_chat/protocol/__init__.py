"""The pure core: what is said and what is decided. No trio, socket, clock, disk, logging or randomness in here."""
