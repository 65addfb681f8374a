"""The etag of a record in a store that has none of its own."""

import hashlib


def etag_of(record: bytes) -> str:
    """Names the content: a record has the same etag whenever and wherever it is read."""
    return hashlib.blake2b(record, digest_size=16).hexdigest()
