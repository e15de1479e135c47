"""Keys and what is made with them. Pure, except that HPKE generates random bytes by itself.

identities.py  private keys, and the certificate of a name
addresses.py   an address that only one person can read
letters.py     letters sealed for one recipient; posts signed for everyone
room_keys.py   epochs of private rooms, and posts sealed with their keys
receipts.py    what the recipient of a message signs
signatures.py  the bytes that are signed, and their verification
"""
