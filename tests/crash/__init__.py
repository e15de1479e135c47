"""Kill -9 while messages are sent: real processes that are killed, and a count of what was lost or came twice."""
