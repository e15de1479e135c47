"""What a person sees and types. Knows the client library; knows nothing of the server, the wire or the arguments."""
