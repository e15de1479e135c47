"""Keys and what is made with them: identities, sealed letters, signed posts, receipts. Pure, but for HPKE's randomness.

identities.py  somebody's private keys, and the certificate of a name
letters.py     letters sealed to one recipient; posts signed for everyone
receipts.py    what a recipient signs for a message
signatures.py  the bytes that are signed, and their verification
"""
