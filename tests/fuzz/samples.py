"""One message of every class: where mutations begin, and what tests of the wire change by hand."""

from trio_chat.protocol.messages import (
    Accepted,
    Ack,
    Busy,
    Delivered,
    Deregister,
    Deregistered,
    DirectMessage,
    Elsewhere,
    Find,
    Found,
    GroupPost,
    Heartbeat,
    Letters,
    Part,
    PartAck,
    Receipt,
    Refused,
    Register,
    Registered,
    Save,
    Saved,
    TableChange,
    TableHeld,
    Taken,
    Takeover,
)
from trio_chat.protocol.records import Credentials, Letter, LetterKind, PublicKeys, Record, Version

ID = bytes(range(16))
VERSION = Version(b"8 bytes.", 3)
LETTER = Letter(LetterKind.DIRECT, ID, "alice", 12.5, b"hi")
CREDENTIALS = Credentials(PublicKeys(bytes(range(32)), bytes(range(32, 64))), bytes(range(64)))
RECORD = Record("bob", "127.0.0.1", 3333, True, 12.5, CREDENTIALS)
SAMPLES = {
    type(sample): sample
    for sample in (
        Register(ID, "bob", CREDENTIALS, ID, 12.5),
        Deregister(ID),
        DirectMessage(ID, "alice", "bob", "hi"),
        Save(ID, "bob", b"hi"),
        GroupPost(ID, b"hi"),
        Letters(ID, "bob", (LETTER,)),
        TableChange(ID, VERSION, VERSION, (RECORD,)),
        Heartbeat(ID, 12.5),
        Find(ID, "bob"),
        Takeover(ID, 12.5),
        Ack(DirectMessage.kind, ID),
        Busy(Letters.kind, ID),
        Refused(Save.kind, ID, "full"),
        Registered(Register.kind, ID, VERSION, 2, 12.5),
        Deregistered(Deregister.kind, ID),
        Delivered(Save.kind, ID, bytes(96), True),
        Saved(Save.kind, ID, 12.5),
        Accepted(GroupPost.kind, ID, 12.5),
        TableHeld(TableChange.kind, ID, VERSION),
        Receipt(DirectMessage.kind, ID, bytes(96)),
        Taken(Letters.kind, ID, (b"", bytes(64), bytes(96)), 2),
        Found(Find.kind, ID, RECORD),
        Elsewhere(Register.kind, ID, 12.5),
        Part(Save.kind, ID, 0, 2, b"body"),
        PartAck(Save.kind, ID, 3),
    )
}
