"""Letters, posts, receipts and certificates: only the reader opens them, and only the owner of a key signs.

Pure functions with fixed keys. HPKE draws random bytes, on which no result depends.
"""

import hashlib
import math
import struct

import attrs
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_chat.crypto import identities, letters, receipts
from trio_chat.crypto.identities import Identity, sign_identity, sign_link_key, verify_identity, verify_link_key
from trio_chat.crypto.letters import (
    LETTER_OVERHEAD,
    TO_EVERYONE,
    OpenedText,
    SignedRoom,
    Unreadable,
    open_letter_untrusted,
    open_post_untrusted,
    seal_letter,
    sign_post,
)
from trio_chat.crypto.receipts import NO_HASH, Verdict, hash_text, read_receipt, sign_receipt, verify_receipt
from trio_chat.crypto.signatures import statement
from trio_chat.protocol.records import MAX_BODY, MAX_TEXT, PublicKeys

ALICE, BOB, EVE = (Identity(bytes((n,)) * 32, bytes((n + 100,)) * 32) for n in (1, 2, 3))
ID = bytes(range(16))
SERVER = bytes((9,)) * 32
NAMES = {"id": ID, "sender": "Alice", "recipient": "bob"}
LETTER = {**NAMES, "sent_at": 12.5, "text": "hi"}


def sealed(own: Identity = ALICE, reader: PublicKeys = BOB.public, **changes) -> bytes:
    return seal_letter(own, reader, **(LETTER | changes))


def is_unreadable(data: bytes, own: Identity = BOB, sender_key: bytes = ALICE.public.signing, **changes) -> bool:
    try:
        open_letter_untrusted(data, own, sender_key, **(NAMES | changes))
    except Unreadable:
        return True
    return False


# --- letters ---


@pytest.mark.parametrize("text", ["hi", "x" * MAX_TEXT, "ä🙂\n\0\x1b[2J\u202e"])
def test_the_reader_opens_what_the_sender_sealed(text):
    data = sealed(text=text)
    assert len(data) == len(text.encode()) + LETTER_OVERHEAD
    assert open_letter_untrusted(data, BOB, ALICE.public.signing, **NAMES) == OpenedText(12.5, text)
    assert open_letter_untrusted(data, BOB, ALICE.public.signing, id=ID, sender="ALICE", recipient="Bob").text == text


def test_only_the_reader_can_open_a_letter():
    data = sealed(text="a secret of some length")
    assert is_unreadable(data, own=EVE)
    assert is_unreadable(data, own=ALICE)
    assert b"secret" not in data
    assert data != sealed(text="a secret of some length")


def test_a_letter_with_another_id_name_or_key_is_unreadable():
    data = sealed()
    assert is_unreadable(data, id=bytes(16))
    assert is_unreadable(data, sender="eve")
    assert is_unreadable(data, recipient="eve")
    assert is_unreadable(data, sender_key=EVE.public.signing)
    assert is_unreadable(data, sender_key=bytes(32))
    assert is_unreadable(data, sender_key=b"short")
    assert not is_unreadable(data)


def test_eve_cannot_write_as_alice():
    assert is_unreadable(sealed(own=EVE))


def put_together(inside: bytes, **changes) -> bytes:
    names = NAMES | changes
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    info = letters._envelope(names["id"], names["sender"], names["recipient"])
    return suite.encrypt(inside, X25519PublicKey.from_public_bytes(BOB.public.link), info)


def opened_by(reader: Identity, data: bytes, **names) -> bytes:
    suite = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
    return suite.decrypt(data, reader.link, letters._envelope(**names))


def test_the_envelope_opens_only_under_its_id_and_names():
    data = sealed()
    assert opened_by(BOB, data, **NAMES)
    for changes in ({"id": bytes(16)}, {"sender": "eve"}, {"recipient": "eve"}):
        with pytest.raises(InvalidTag):
            opened_by(BOB, data, **(NAMES | changes))


def test_what_the_sender_signs():
    inside = opened_by(BOB, sealed(), **NAMES)
    fields = [b"trio_chat/1 letter", ID, b"alice", ALICE.public.signing, b"bob", BOB.public.signing, BOB.public.link]
    fields += [struct.pack(">d", 12.5), b"hi"]
    stated = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    ALICE.signing.public_key().verify(inside[:64], stated)
    assert inside[64:] == struct.pack(">d", 12.5) + b"hi"


def test_eve_cannot_pass_on_to_bob_what_alice_wrote_to_her():
    to_eve = seal_letter(ALICE, EVE.public, **(LETTER | {"recipient": "eve"}))
    inside = opened_by(EVE, to_eve, id=ID, sender="alice", recipient="eve")
    assert is_unreadable(put_together(inside))
    # Even if the server gives Eve the name bob, the keys differ:
    to_eve_as_bob = seal_letter(ALICE, EVE.public, **LETTER)
    inside = opened_by(EVE, to_eve_as_bob, **NAMES)
    assert is_unreadable(put_together(inside))


def test_the_server_cannot_rewrite_a_letter_or_give_it_another_id():
    inside = opened_by(BOB, sealed(), **NAMES)
    assert not is_unreadable(put_together(inside))
    assert is_unreadable(put_together(inside, id=bytes(16)), id=bytes(16))
    assert is_unreadable(put_together(inside[:72] + b"ho"))
    assert is_unreadable(put_together(inside[:64] + struct.pack(">d", 12.6) + inside[72:]))


def signed_by_alice(time: float, raw: bytes) -> bytes:
    stated = letters._letter(ID, "alice", ALICE.public.signing, "bob", BOB.public, time, raw)
    return put_together(ALICE.signing.sign(stated) + struct.pack(">d", time) + raw)


def test_invalid_letters_are_unreadable_even_if_they_are_signed():
    assert not is_unreadable(signed_by_alice(12.5, b"hi"))
    for time in (math.nan, math.inf, -1.0, 253_402_300_800.0):
        assert is_unreadable(signed_by_alice(time, b"hi"))
    for raw in (b"", b"\xff", b"\xed\xa0\x80", b"x" * (MAX_TEXT + 1)):
        assert is_unreadable(signed_by_alice(12.5, raw))
    assert is_unreadable(put_together(b""))
    assert is_unreadable(put_together(bytes(72)))


@given(st.integers(0, 10**9), st.integers(1, 255))
@settings(max_examples=60)
def test_a_letter_with_a_changed_byte_is_unreadable(place, change):
    data = bytearray(sealed())
    data[place % len(data)] ^= change
    masked = place % len(data) == 31 and change == 128  # the top bit of an X25519 key is ignored (RFC 7748, section 5)
    assert is_unreadable(bytes(data)) or masked


@given(st.binary(max_size=300))
def test_any_bytes(data):
    assert is_unreadable(data)


def test_a_letter_cut_short_or_longer():
    data = sealed()
    assert all(is_unreadable(data[:size]) for size in range(len(data)))
    assert is_unreadable(data + b"\0")


def test_nothing_can_be_sealed_for_an_unusable_key():
    for link in (bytes(32), b"\x01" + bytes(31), b"short"):
        with pytest.raises(Unreadable):
            sealed(reader=PublicKeys(BOB.public.signing, link))


def test_the_longest_letter_is_the_longest_body():
    assert len(sealed(text="x" * MAX_TEXT)) == MAX_BODY


# --- group posts ---


def is_no_post(body: bytes, key: bytes = ALICE.public.signing, **changes) -> bool:
    try:
        open_post_untrusted(body, key, **({"id": ID, "sender": "alice"} | changes))
    except Unreadable:
        return True
    return False


def test_a_post_is_valid_for_its_sender_id_and_name_only():
    body = sign_post(ALICE, id=ID, sender="Alice", sent_at=12.5, text="hi all")
    assert open_post_untrusted(body, ALICE.public.signing, id=ID, sender="ALICE") == OpenedText(12.5, "hi all")
    assert body.endswith(b"hi all")
    assert is_no_post(body, EVE.public.signing)
    assert is_no_post(body, b"short")
    assert is_no_post(body, id=bytes(16))
    assert is_no_post(body, sender="eve")
    for place in range(len(body)):
        assert is_no_post(body[:place] + bytes((body[place] ^ 1,)) + body[place + 1 :])
        assert is_no_post(body[:place])


LUNCH = SignedRoom("#" + 32 * "1", "Lunch")


@pytest.mark.parametrize("shown_in", [TO_EVERYONE, SignedRoom("#" + 32 * "2", "Lunch"), SignedRoom(LUNCH.id, "Work")])
def test_a_post_to_a_room_is_not_readable_in_another_room_or_under_another_name(shown_in):
    to_lunch = sign_post(ALICE, id=ID, sender="alice", sent_at=12.5, text="soup", room=LUNCH)
    elsewhere = sign_post(ALICE, id=ID, sender="alice", sent_at=12.5, text="soup", room=shown_in)
    assert is_no_post(to_lunch, room=shown_in)
    assert is_no_post(elsewhere, room=LUNCH)
    same = attrs.evolve(LUNCH, name="LUNCH")
    opened = open_post_untrusted(to_lunch, ALICE.public.signing, id=ID, sender="alice", room=same)
    assert opened == OpenedText(12.5, "soup")


# --- receipts ---

RECEIPT = {"id": ID, "sender": "alice"}


HI, HO = hash_text("hi"), hash_text("ho")


def read(receipt: bytes, text_hash: bytes = HI, **changes) -> Verdict:
    return read_receipt(receipt, BOB.public.signing, **(RECEIPT | changes), text_hash=text_hash)


def test_the_hash_of_a_text_is_the_sha_256_of_its_utf_8():
    assert hash_text("gr\u00fc\u00dfe") == hashlib.sha256(b"gr\xc3\xbc\xc3\x9fe").digest()


def test_a_receipt_is_valid_for_its_reader_message_and_sender_only():
    receipt = sign_receipt(BOB, **RECEIPT, text_hash=HI)
    assert len(receipt) == 96
    key = BOB.public.signing
    assert verify_receipt(receipt, key, **RECEIPT)
    assert verify_receipt(receipt, key, id=ID, sender="ALICE")
    assert not verify_receipt(receipt, EVE.public.signing, **RECEIPT)
    assert not verify_receipt(receipt, b"short", **RECEIPT)
    assert not verify_receipt(receipt, key, id=bytes(16), sender="alice")
    assert not verify_receipt(receipt, key, id=ID, sender="eve")
    for changed in (b"", receipt[:-1], receipt + b"\0", bytes(32) + receipt[32:], receipt[:32] + bytes(64)):
        assert not verify_receipt(changed, key, **RECEIPT)
        assert read(changed) is Verdict.FORGED


def test_a_receipt_says_whether_the_reader_has_our_text_another_one_or_none():
    assert read(sign_receipt(BOB, **RECEIPT, text_hash=HI)) is Verdict.RECEIVED
    assert read(sign_receipt(BOB, **RECEIPT, text_hash=HO)) is Verdict.WRONG_TEXT
    assert read(sign_receipt(BOB, **RECEIPT, text_hash=NO_HASH)) is Verdict.NOT_OPENED


def test_what_the_reader_has_not_signed_says_nothing():
    for text_hash in (HI, HO, NO_HASH):
        assert read(sign_receipt(EVE, **RECEIPT, text_hash=text_hash)) is Verdict.FORGED
        assert read(sign_receipt(BOB, **RECEIPT, text_hash=text_hash), id=bytes(16)) is Verdict.FORGED
    true = sign_receipt(BOB, **RECEIPT, text_hash=HO)
    assert read(HI + true[32:]) is Verdict.FORGED, "the hash is signed, too"
    assert read(NO_HASH + true[32:]) is Verdict.FORGED


# --- other signatures: each with its verification, and with every field changed ---

NAME = {"name": "alice", "server_key": SERVER}

SIGNED = {
    "identity": (sign_identity, verify_identity, NAME),
    "link key": (sign_link_key, verify_link_key, {}),
}
OTHER = {"name": "eve", "server_key": bytes(32)}


@pytest.mark.parametrize(("sign", "verify", "fields"), SIGNED.values(), ids=SIGNED)
def test_a_signature_is_valid_for_its_owner_and_fields_only(sign, verify, fields):
    signature = sign(ALICE, **fields)
    assert len(signature) == 64
    assert verify(ALICE.public, signature, **fields)
    assert not verify(EVE.public, signature, **fields)
    assert not verify(PublicKeys(b"short", b"short"), signature, **fields)
    for changed in (bytes(64), b"", signature[:-1], signature + b"\0", bytes((signature[0] ^ 1,)) + signature[1:]):
        assert not verify(ALICE.public, changed, **fields)
    for name in fields:
        assert not verify(ALICE.public, signature, **(fields | {name: OTHER[name]})), name


@pytest.mark.parametrize(("sign", "verify", "fields"), SIGNED.values(), ids=SIGNED)
def test_signatures_ignore_the_case_of_names(sign, verify, fields):
    shouted = {key: value.upper() if key == "name" else value for key, value in fields.items()}
    assert verify(ALICE.public, sign(ALICE, **fields), **shouted)


def test_keys_of_two_people_are_refused():
    mixed = attrs.evolve(ALICE.public, link=EVE.public.link)
    assert not verify_identity(mixed, sign_identity(ALICE, **NAME), **NAME)
    assert not verify_link_key(mixed, sign_link_key(ALICE))


def test_a_signature_of_one_kind_is_not_valid_as_another(monkeypatch):
    stated = []
    for module in (identities, letters, receipts):
        monkeypatch.setattr(module, "verify", lambda key, signature, statement: stated.append(statement))
    same = bytes(32)
    verify_receipt(same, same, id=ID, sender="alice")
    verify_identity(PublicKeys(same, same), b"", name="alice", server_key=same)
    verify_link_key(PublicKeys(same, same), b"")
    stated += [letters._post(ID, "alice", room, 0.0, b"hi") for room in (TO_EVERYONE, LUNCH)]
    stated += [letters._envelope(ID, "alice", "bob")]
    stated += [letters._letter(ID, "alice", same, "bob", BOB.public, 0.0, b"hi")]
    domains = {statement[4 : 4 + int.from_bytes(statement[:4], "big")] for statement in stated}
    assert len(domains) == len(stated) == 7
    assert all(domain.startswith(b"trio_chat/1 ") for domain in domains)


@given(st.lists(st.binary(max_size=5), max_size=4), st.lists(st.binary(max_size=5), max_size=4))
def test_different_statements_have_different_bytes(one, other):
    assert (statement("domain", *one) == statement("domain", *other)) == (one == other)


def test_secrets_are_not_shown():
    assert repr(ALICE.signing_secret) not in repr(ALICE)
    assert repr(ALICE.link_secret) not in repr(ALICE)
    assert Identity(ALICE.signing_secret, ALICE.link_secret).public == ALICE.public
