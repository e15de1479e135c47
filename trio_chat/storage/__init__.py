"""What outlives a message: the store protocols and their backends. Nothing here talks to the network."""
