"""The limits on what a request may carry, shared by client and daemon."""

from typing import Final

MAX_REQUEST_BYTES: Final = 64 * 1024
MAX_BATCH_ENTRIES: Final = 1000
"""Entries of a batch, and names on a page of a listing."""

MAX_WRAPPED_KEK_BYTES: Final = 6144
"""The longest ciphertext that kms.Decrypt takes
(https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html)."""
MAX_TEXT_BYTES: Final = 4096
"""Each text of an envelope, in UTF-8. Twice the longest key id or ARN that AWS takes
(https://docs.aws.amazon.com/kms/latest/APIReference/API_Encrypt.html)."""
MAX_VERSION: Final = 2**32 - 1
"""The version of an envelope is a uint32."""

MAX_INDEX_KEY_BYTES: Final = 255
"""The file name of an envelope: the longest that Linux filesystems take (NAME_MAX)."""
MAX_IDEMPOTENCY_KEY_BYTES: Final = 128
MAX_IMPORTED_VERSIONS: Final = 100
"""Versions of one request. On disk, each takes two fsyncs under the lock of the index."""
MAX_REASON_BYTES: Final = 1024
"""Why an index is held or destroyed."""

MAX_PATH_BYTES: Final = 4096
"""The path of a disk store: PATH_MAX of Linux."""
MAX_BUCKET_BYTES: Final = 255
MAX_PREFIX_BYTES: Final = 1024
"""The prefix of an S3 store: the longest key of an S3 object."""
MAX_REGION_BYTES: Final = 255
MAX_ENDPOINT_BYTES: Final = 1024
