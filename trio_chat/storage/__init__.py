"""What servers and clients keep, on disk or in memory. Nothing here uses the network.

interface         the protocol of a server's store, and the limits of mailboxes
client_interface  the protocol of a client's
memory            a client's store in memory
server_memory     a server's
rules             what operators decide: bans, invitations
server_store      the server's, in SQLite: names and positions
server_log        its log: what transactions append, read and take
server_retention  what is too old in the log
server_requests   letters, posts and changes of rooms: what is allowed, and what was done before
server_rooms      the rooms, and who is in them
server_epochs     what epochs of private rooms change in them
epoch_rows        the epochs that are kept
server_rules      the same in SQLite, and names that are freed or deleted
mailboxes         how much room there is in each mailbox
online_names      who is online and where
past_owners       the keys of those who have lost a name
server_schema     its tables, and how older files are brought up to date
client_store      a client's, in SQLite: letters, seen messages, pinned keys, history
client_rows       the rows of what it has received and sent
client_schema     its tables, and how older files are brought up to date
outgoing          the messages that wait to be sent
sent_letters      the letters that wait for their receipts
runs              whether its last program was killed
kept_epochs       what a client keeps of its private rooms
history           the tables of a client's history
search_query      what a search of the history means
shares            a fair share of what many have
group_commit      many requests in one transaction
database          opening a SQLite file
private_files     files that only their owner may use, and what is wrong with others
identity_file     a person's or a server's keys
"""
