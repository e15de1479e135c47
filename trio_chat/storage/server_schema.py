"""The tables of the server's store, and the scripts that bring older files up to date.

The log is the table `entries`. Rows with kept = 1 have to be handed over. Those with kept = 0 have lost their bodies,
and answer copies of their requests: letters that were acknowledged, and posts that were trimmed; only the newest
ones are remembered. What is read and written is in server_log.py and server_store.py.
"""

from trio_chat.protocol.log import request_number
from trio_chat.storage.database import Schema

FIRST = """
    CREATE TABLE names (
        name TEXT PRIMARY KEY COLLATE NOCASE, host TEXT NOT NULL, port INTEGER NOT NULL, since REAL NOT NULL,
        letters INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,
        missed INTEGER NOT NULL DEFAULT 0, missed_id BLOB
    ) WITHOUT ROWID;
    CREATE TABLE letters (
        recipient TEXT NOT NULL COLLATE NOCASE, number INTEGER NOT NULL,
        kind TEXT NOT NULL, sender TEXT NOT NULL COLLATE NOCASE, id BLOB NOT NULL,
        sent_at REAL NOT NULL, text TEXT NOT NULL,
        UNIQUE (recipient, number), UNIQUE (recipient, kind, sender, id)
    );
    CREATE TABLE posts (
        number INTEGER PRIMARY KEY, sender TEXT NOT NULL COLLATE NOCASE, id BLOB NOT NULL,
        sent_at REAL NOT NULL, text TEXT NOT NULL, recipients TEXT NOT NULL, UNIQUE (sender, id)
    );
    CREATE TABLE answers (
        kind TEXT NOT NULL, sender TEXT NOT NULL COLLATE NOCASE, id BLOB NOT NULL,
        status TEXT NOT NULL, sent_at REAL NOT NULL, PRIMARY KEY (kind, sender, id)
    ) WITHOUT ROWID;
    CREATE INDEX answers_by_age ON answers (sent_at);
    """

# New columns of type BLOB: a renamed column would keep its type, and would still turn numbers into text.
BODIES_AND_KEYS = """
    ALTER TABLE names ADD COLUMN signing BLOB;
    ALTER TABLE names ADD COLUMN link BLOB;
    ALTER TABLE names ADD COLUMN certificate BLOB
        CHECK ((signing IS NULL) + (link IS NULL) + (certificate IS NULL) IN (0, 3));
    ALTER TABLE letters ADD COLUMN body BLOB NOT NULL DEFAULT x'';
    UPDATE letters SET body = CAST(text AS BLOB);
    ALTER TABLE letters DROP COLUMN text;
    ALTER TABLE posts ADD COLUMN body BLOB NOT NULL DEFAULT x'';
    UPDATE posts SET body = CAST(text AS BLOB);
    ALTER TABLE posts DROP COLUMN text;
    ALTER TABLE answers ADD COLUMN receipt BLOB NOT NULL DEFAULT x'';
    """

# No constraints on the columns: whether a row is valid is checked when it is read. It is then set aside into one of the
# `damaged` tables, while a violated constraint would make the check at the start refuse the whole file. The requests
# are unique since there is one log, but older ones need not be: letters to two people may have one id.
#
# In `names`, `number` is the order of the names, `letters` and `bytes` are the letters that wait for one, and the bytes
# of their bodies. In `log`, `posts` and `bytes` are the posts that are kept, `latest` is the latest time of an entry.
TABLES = """
    ALTER TABLE names RENAME TO old_names;
    CREATE TABLE names (
        number INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE UNIQUE, host TEXT, port INTEGER, since REAL,
        signing BLOB, link BLOB, certificate BLOB, freed INTEGER,
        position INTEGER, letters INTEGER, bytes INTEGER
    );
    CREATE TABLE entries (
        seq INTEGER PRIMARY KEY, kind TEXT, sender TEXT COLLATE NOCASE, key BLOB, id BLOB, recipient TEXT,
        taken_at REAL, body BLOB, hash BLOB, receipt BLOB, kept INTEGER
    );
    CREATE INDEX requests ON entries (key, id, kind) WHERE kind IN ('direct', 'group');
    CREATE INDEX places ON entries (kept, recipient, seq, sender);
    CREATE TABLE log (head INTEGER, posts INTEGER, bytes INTEGER, trimmed INTEGER, latest REAL);
    CREATE TABLE damaged (seq, kind, sender, key, id, recipient, taken_at, body, hash, receipt, kept);
    CREATE TABLE damaged_names (
        number, name, host, port, since, signing, link, certificate, freed, position, letters, bytes
    );
    """

# The numbers of letters and posts become those of entries. A post was in many mailboxes, under one number: it is one
# entry now. The key of a sender is the one that their name has today, which may be none. An unreadable letter has
# failed: the form of its signature is no longer understood.
#
# An answer whose letter or post still waits becomes part of its row. The others were handed over: they get negative
# numbers, the oldest first, and no recipient, and nobody reads them.
#
# A position is below the first number that waits. That may be below posts which somebody has already: their client
# knows these by their ids.
ONE_LOG = """
    INSERT INTO log SELECT
        max(coalesce((SELECT max(number) FROM letters), 0), coalesce((SELECT max(number) FROM posts), 0)), 0, 0, 0, 0;

    INSERT INTO entries (seq, kind, sender, key, id, recipient, taken_at, body, kept)
        SELECT number, iif(kind = 'unreadable', 'failed', kind), sender,
            coalesce((SELECT signing FROM old_names WHERE name = sender), zeroblob(32)), id,
            iif(kind = 'group', '', lower(recipient)), sent_at, iif(kind = 'unreadable', x'', body), 1
        FROM letters GROUP BY number;
    INSERT INTO entries (seq, kind, sender, key, id, recipient, taken_at, body, kept)
        SELECT number, 'group', sender, coalesce((SELECT signing FROM old_names WHERE name = sender), zeroblob(32)), id,
            '', sent_at, body, 1
        FROM posts;
    INSERT INTO entries (seq, kind, sender, key, id, taken_at, receipt, kept)
        WITH requests AS (
            SELECT *, coalesce((SELECT signing FROM old_names WHERE name = sender), zeroblob(32)) AS key FROM answers
        )
        SELECT -row_number() OVER (ORDER BY sent_at DESC), kind, sender, key, id,
            sent_at, iif(status = 'DELIVERED', receipt, x''), 0
        FROM requests WHERE NOT EXISTS (
            SELECT * FROM entries AS waiting WHERE waiting.kind IN ('direct', 'group')
                AND (waiting.key, waiting.id, waiting.kind) = (requests.key, requests.id, requests.kind)
        );
    INSERT INTO entries (seq, kind, sender, key, id, recipient, taken_at, body, kept)
        SELECT head + row_number() OVER (ORDER BY since), 'missed', name, zeroblob(32),
            coalesce(missed_id, randomblob(16)), lower(name), strftime('%s', 'now'),
            CAST(CAST(missed AS TEXT) AS BLOB), 1
        FROM old_names, log WHERE missed > 0;

    INSERT INTO names
        SELECT row_number() OVER (ORDER BY since), name, host, port, since, signing, link, certificate,
            signing IS NULL, head, 0, 0
        FROM old_names, log;
    UPDATE names SET position = min(
        position,
        coalesce((SELECT min(number) - 1 FROM letters WHERE recipient = name), position),
        coalesce(
            (SELECT min(number) - 1 FROM posts WHERE instr(' ' || recipients || ' ', ' ' || lower(name) || ' ')),
            position
        )
    );
    UPDATE names SET (letters, bytes) = (
        SELECT count(*), coalesce(sum(length(body)), 0) FROM entries
        WHERE kept = 1 AND recipient = lower(name) AND kind = 'direct'
    );
    UPDATE log SET
        head = max(head, coalesce((SELECT max(seq) FROM entries), 0)),
        (posts, bytes) = (
            SELECT count(*), coalesce(sum(length(body)), 0) FROM entries WHERE kept = 1 AND recipient = ''
        ),
        latest = coalesce((SELECT max(taken_at) FROM entries), 0);
    DROP TABLE old_names;
    DROP TABLE letters;
    DROP TABLE posts;
    DROP TABLE answers;
    """

# A commit writes each page that it has changed, so indexes and what changes often are narrow: a request has a number
# (see `request_number`), and positions are apart from names with their keys. Notices, which are taken without being
# looked at, are found without the letters among them. The index `posts` has what counting needs: no rows are read.
# `untold` are letters that were taken without a receipt.
#
# Rows may be damaged, and are set aside later: here, any value must do. In requests from before there was one log, no
# recipient would make a row damaged.
MAILBOXES = """
    ALTER TABLE entries ADD COLUMN request INTEGER;
    ALTER TABLE damaged ADD COLUMN request;
    UPDATE entries SET request = request_number(
        CAST(kind AS BLOB), coalesce(CAST(key AS BLOB), x''), coalesce(CAST(id AS BLOB), x'')
    ) WHERE kind IN ('direct', 'group');
    DROP INDEX requests;
    DROP INDEX places;
    CREATE INDEX requests ON entries (request) WHERE request IS NOT NULL;
    CREATE INDEX personal ON entries (recipient, seq) WHERE kept = 1 AND recipient <> '';
    CREATE INDEX notices ON entries (recipient, seq) WHERE kept = 1 AND request IS NULL;
    CREATE INDEX posts ON entries (recipient, kept, seq, sender) WHERE recipient = '';
    CREATE INDEX untold ON entries (recipient, seq) WHERE kept = 0 AND body = x'';

    CREATE TABLE mailboxes (
        name TEXT PRIMARY KEY COLLATE NOCASE, position INTEGER, letters INTEGER, bytes INTEGER
    ) WITHOUT ROWID;
    INSERT OR IGNORE INTO mailboxes SELECT lower(name), position, letters, bytes FROM names WHERE name IS NOT NULL;
    ALTER TABLE names DROP COLUMN position;
    ALTER TABLE names DROP COLUMN letters;
    ALTER TABLE names DROP COLUMN bytes;
    ALTER TABLE log DROP COLUMN trimmed;
    """

# `reserved` is the fingerprint of the only key that may take a name that was freed, `seen` when somebody was last known
# to be online under a name: NULL until the next look. Codes of invitations are not kept, only their hashes.
RULES = """
    ALTER TABLE names ADD COLUMN reserved TEXT;
    ALTER TABLE names ADD COLUMN seen REAL;
    ALTER TABLE damaged_names ADD COLUMN reserved;
    ALTER TABLE damaged_names ADD COLUMN seen;
    CREATE TABLE bans (kind TEXT, value TEXT, name TEXT, UNIQUE (kind, value));
    CREATE TABLE invitations (hash BLOB UNIQUE, until REAL, name TEXT);
    """

# `members` of a room are its rows in the table of that name, `latest` and `trimmed` the entries of its last post and of
# the last one that is no longer kept. `unused_since`: nobody is in it; NULL if somebody is, or if it is for everyone.
# The key of a member is there because a name may get a new owner.
#
# Which posts are trimmed depends on the keys and the sizes of all that are kept: these are read from the index, since
# the rows have the bodies, too. Posts that are no longer kept may be 100 times as many, and are only counted.
ROOMS = """
    CREATE TABLE rooms (
        id TEXT PRIMARY KEY, name TEXT COLLATE NOCASE UNIQUE, owner BLOB, members INTEGER,
        posts INTEGER, bytes INTEGER, latest INTEGER, trimmed INTEGER, unused_since REAL, origin TEXT
    );
    CREATE INDEX rooms_by_owner ON rooms (owner);
    CREATE INDEX rooms_by_origin ON rooms (origin);
    CREATE TABLE members (
        room TEXT, name TEXT COLLATE NOCASE, key BLOB, joined INTEGER, PRIMARY KEY (room, name)
    ) WITHOUT ROWID;
    CREATE INDEX members_by_name ON members (name, joined);
    CREATE INDEX members_by_key ON members (key);
    CREATE TABLE damaged_rooms (id, name, owner, members, posts, bytes, latest, trimmed, unused_since, origin);
    INSERT INTO rooms SELECT '', 'everyone', zeroblob(32), 0,
        (SELECT posts FROM log LIMIT 1), (SELECT bytes FROM log LIMIT 1),
        coalesce((SELECT max(seq) FROM entries WHERE recipient = ''), 0),
        coalesce((SELECT max(seq) FROM entries WHERE kept = 0 AND recipient = ''), 0), NULL, '';
    ALTER TABLE log DROP COLUMN posts;
    ALTER TABLE log DROP COLUMN bytes;
    DROP INDEX personal;
    DROP INDEX posts;
    CREATE INDEX personal ON entries (recipient, seq) WHERE kept = 1 AND recipient > '$';
    CREATE INDEX posts ON entries (recipient, seq, sender, key, length(body)) WHERE kept = 1 AND recipient < '$';
    CREATE INDEX missed ON entries (recipient, seq, sender) WHERE kept = 0 AND recipient < '$';
    CREATE INDEX remembered ON entries (seq) WHERE kept = 0;
    """

# Those who have lost a name; `head` is the number of the last entry then. An owner who loses it again is the newest.
PAST_OWNERS = """
    CREATE TABLE past_owners (
        number INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE, signing BLOB, link BLOB, certificate BLOB, head INTEGER,
        UNIQUE (name, signing)
    );
    CREATE TABLE damaged_past_owners (number, name, signing, link, certificate, head);
    """

# `epoch` of a private room is the number of the present one. Epochs are apart from the log: they are kept while posts
# of their time may be, and never count as posts.
EPOCHS = """
    ALTER TABLE rooms ADD COLUMN epoch INTEGER DEFAULT 0;
    ALTER TABLE damaged_rooms ADD COLUMN epoch;
    CREATE TABLE epochs (
        seq INTEGER PRIMARY KEY, room TEXT, n INTEGER, sender TEXT, key BLOB, id BLOB, taken_at REAL, body BLOB
    );
    CREATE INDEX epochs_by_room ON epochs (room, seq, n);
    CREATE INDEX epochs_by_age ON epochs (taken_at);
    CREATE TABLE damaged_epochs (seq, room, n, sender, key, id, taken_at, body);
    """

# Who is online and where; `host` may have a zone (fe80::1%eth0). Apart from `names`, whose rows have the keys in them.
ONLINE = """
    CREATE TABLE online (name TEXT PRIMARY KEY COLLATE NOCASE, host TEXT, port INTEGER) WITHOUT ROWID;
    """

SERVER_SCHEMA = Schema(
    application_id=0x74434853,  # "tCHS"
    migrations=(FIRST, BODIES_AND_KEYS, TABLES + ONE_LOG, MAILBOXES + RULES, PAST_OWNERS + ROOMS, EPOCHS, ONLINE),
    functions={"request_number": request_number},
)
