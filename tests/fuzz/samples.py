"""One message of every class: where mutations begin, and what tests of the wire change by hand."""

from trio_chat.protocol.messages import (
    Accepted,
    Ack,
    Batch,
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
    Introduce,
    Introduced,
    ListNames,
    MessagesKept,
    NamesListed,
    Part,
    PartAck,
    Refused,
    Register,
    Registered,
    Save,
    Saved,
    SessionEnded,
    TableChange,
    TableHeld,
    Taken,
)
from trio_chat.protocol.records import Credentials, Entry, EntryKind, PublicKeys, Record, Room, Version
from trio_chat.protocol.room_messages import (
    BeginEpoch,
    CreateRoom,
    EpochPart,
    GetEpoch,
    JoinRoom,
    LeaveRoom,
    ListMembers,
    ListRooms,
    MemberList,
    RoomChanged,
    RoomList,
)

ID = bytes(range(16))
VERSION = Version(b"8 bytes.", 3)
CREDENTIALS = Credentials(PublicKeys(bytes(range(32)), bytes(range(32, 64))), bytes(range(64)))
ENTRY = Entry(7, EntryKind.DIRECT, ID, "alice", bytes(range(32)), "bob", 12.5, b"hi")
RECORD = Record("bob", "127.0.0.1", 3333, True, 12.5, CREDENTIALS)
ROOM = Room("#" + "0f" * 16, "lunch", bytes(range(32)), 3, 5)
SAMPLES = {
    type(sample): sample
    for sample in (
        Register(ID, "bob", CREDENTIALS, ID, 12.5, (bytes(32), bytes(range(32))), held=VERSION),
        Deregister(ID),
        DirectMessage(ID, "alice", "bob", "hi", True),
        MessagesKept(ID, (ID, bytes(16))),
        Save(ID, "bob", b"hi"),
        GroupPost(ID, b"hi", ROOM.id),
        Batch(ID, "bob", (ENTRY,), (("alice", CREDENTIALS),), ((ROOM.id, ROOM.name),)),
        TableChange(ID, VERSION, VERSION, (RECORD,)),
        Heartbeat(ID, 12.5),
        Find(ID, "bob"),
        ListNames(ID, "bob"),
        Introduce(ID, "bob", bytes(60)),
        Introduced(ID, "bob", bytes(60)),
        SessionEnded(ID, 12.5),
        CreateRoom(ID, "lunch"),
        JoinRoom(ID, "lunch"),
        LeaveRoom(ID, ROOM.id),
        ListRooms(ID, "lunch", True),
        ListMembers(ID, ROOM.id, "bob"),
        BeginEpoch(ID, "!" + "0f" * 16, 3, b"epoch"),
        GetEpoch(ID, "!" + "0f" * 16, 3, 1000),
        Ack(DirectMessage.kind, ID),
        Busy(Batch.kind, ID),
        Refused(Save.kind, ID, "full"),
        Registered(Register.kind, ID, VERSION, 12.5, 2, 7, 1),
        Deregistered(Deregister.kind, ID),
        Delivered(Save.kind, ID, bytes(96)),
        Saved(Save.kind, ID),
        Accepted(GroupPost.kind, ID),
        TableHeld(TableChange.kind, ID, VERSION),
        Taken(Batch.kind, ID, 4, (b"", bytes(64), bytes(96))),
        Found(Find.kind, ID, RECORD, VERSION),
        NamesListed(ListNames.kind, ID, (("bob", True, 12.5, bytes(range(32))),)),
        Elsewhere(Register.kind, ID, 12.5),
        RoomChanged(JoinRoom.kind, ID, ROOM),
        RoomList(ListRooms.kind, ID, (ROOM,)),
        MemberList(ListMembers.kind, ID, ("alice", "bob")),
        EpochPart(GetEpoch.kind, ID, 7, 3, 1500, b"part"),
        Part(Save.kind, ID, 0, 2, b"body"),
        PartAck(Save.kind, ID, 3),
    )
}
