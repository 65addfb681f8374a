from dataclasses import replace

import pytest

from kekd_schema import Envelope
from kekd_server.model.envelope_validation import validate_envelope
from kekd_server.model.errors import InvalidEnvelopeError

AWS = Envelope(provider="aws", key_id="secret", wrapped_kek=b"w", version=1)
KMS = replace(AWS, provider="aws-kms", wrapped_kek=b"w" * 6144)
NONE = Envelope(provider="none", version=2**32 - 1)


@pytest.mark.parametrize(
    "envelope", [AWS, KMS, NONE, replace(NONE, key_id="k" * 4096, created_at=-1)]
)
def test_valid_envelope_is_accepted(envelope: Envelope) -> None:
    validate_envelope(envelope)


@pytest.mark.parametrize(
    ("envelope", "problem"),
    [
        (replace(AWS, provider=""), "provider must be"),
        (replace(AWS, provider="AWS"), "provider must be"),
        (replace(AWS, key_id=""), "needs a key_id"),
        (replace(KMS, key_id=""), "needs a key_id"),
        (replace(AWS, wrapped_kek=b""), "needs a wrapped_kek"),
        (replace(KMS, wrapped_kek=b""), "needs a wrapped_kek"),
        (replace(KMS, wrapped_kek=b"w" * 6145), "6145 bytes, and the limit is 6144"),
        (replace(NONE, wrapped_kek=b"w"), "has no wrapped_kek"),
        (replace(NONE, kms_name="é" * 2049), "kms_name has 4098 bytes, and the limit is 4096"),
        (replace(NONE, key_id="k" * 4097), "key_id has 4097 bytes"),
        (replace(NONE, region="r" * 4097), "region has 4097 bytes"),
        (replace(NONE, key_arn="a" * 4097), "key_arn has 4097 bytes"),
        (replace(NONE, binding="b" * 4097), "binding has 4097 bytes"),
        (replace(NONE, version=0), "version must be"),
        (replace(NONE, version=2**32), "version must be"),
    ],
)
def test_invalid_envelope_is_refused_with_the_rule(envelope: Envelope, problem: str) -> None:
    with pytest.raises(InvalidEnvelopeError, match=problem):
        validate_envelope(envelope)


def test_all_broken_rules_are_listed() -> None:
    with pytest.raises(InvalidEnvelopeError) as caught:
        validate_envelope(Envelope(provider="aws"))
    for problem in ("key_id", "wrapped_kek", "version"):
        assert problem in str(caught.value)
