"""Client of kekd, the key-envelope daemon, with the envelope API of cyborgdb_core.

import kekd as cyborgdb

blob = cyborgdb.KMSBlob(provider="aws-kms", key_id="alias/prod", wrapped_kek=b"...")
cyborgdb.create_index_kms(None, "my_index", blob)
cyborgdb.get_index_kms(None, "my_index")
"""

from kekd._client import AsyncClient, Client
from kekd._functions import (
    connect,
    create_index_kms,
    delete_index_kms,
    get_index_kms,
    list_index_kms,
    push_index_kms,
)
from kekd._types import KMSBlob, S3Credentials, StorageConfig
from kekd.errors import (
    CorruptEnvelopeError,
    DeadlineExceededError,
    EnvelopeError,
    EnvelopeExistsError,
    EnvelopeNotFoundError,
    EtagMismatchError,
    InternalError,
    InvalidArgumentError,
    InvalidEnvelopeError,
    InvalidIndexNameError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StoreUnusableError,
    UnauthenticatedError,
    UnavailableError,
)

__all__ = [
    "AsyncClient",
    "Client",
    "CorruptEnvelopeError",
    "DeadlineExceededError",
    "EnvelopeError",
    "EnvelopeExistsError",
    "EnvelopeNotFoundError",
    "EtagMismatchError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidEnvelopeError",
    "InvalidIndexNameError",
    "KMSBlob",
    "PermissionDeniedError",
    "ResourceExhaustedError",
    "S3Credentials",
    "StorageConfig",
    "StoreUnusableError",
    "UnauthenticatedError",
    "UnavailableError",
    "connect",
    "create_index_kms",
    "delete_index_kms",
    "get_index_kms",
    "list_index_kms",
    "push_index_kms",
]
