"""The chat server. Nothing here uses the client.

server         serve_chat(): tasks and sockets, registrations, the table
service        its decisions (pure), and who is online
sessions       the session of a name, and what a request leads to
room_sessions  the sessions in each room
views          what each session sees of the table
blocks         who is shown as offline to whom
throttle       what one key or one address may ask for
moderation     what the operator has decided
delivery       the delivery loop of each session
rooms          the requests about rooms, in their order
searches       answers to those who search for a server
retention      which clock tells what is too old
wake_up_calls  whom a server that starts again calls
other_versions whom the operator is told of because their program has another version
control        the operator's commands: the socket
operations     what they do
"""
