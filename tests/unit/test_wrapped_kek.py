"""The types that are accepted as the bytes of a wrapped KEK."""

import array
from typing import Any

import cyborgdb_core
import pytest

import kekd
from kekd import _operations as operations
from kekd_proto.v1 import envelope_pb2 as pb

TAKEN = [
    b"ab",
    memoryview(b"ab"),
    memoryview(b"axbx")[::2],
    memoryview(array.array("H", b"a\0b\0")),
    array.array("B", b"ab"),
    [97, 98],
    (97, 98),
]
REFUSED = ["ab", None, 7, [256], [0.5], memoryview(array.array("d", [0.5])), {97: 98}]


def sent(wrapped_kek: Any) -> bytes:
    operation = operations.push(None, "i", kekd.KMSBlob("", "aws", wrapped_kek=wrapped_kek), None)
    assert isinstance(operation.request, pb.PushEnvelopeRequest)
    return operation.request.blob.wrapped_kek


@pytest.mark.parametrize("value", TAKEN, ids=range(len(TAKEN)))
def test_value_that_the_reference_accepts_is_accepted(value: Any) -> None:
    reference = cyborgdb_core.KMSBlob(provider="aws", wrapped_kek=value)
    assert sent(value) == reference.wrapped_kek == b"ab"


def test_bytearray_is_accepted() -> None:
    assert sent(bytearray(b"ab")) == b"ab"


@pytest.mark.parametrize("value", REFUSED, ids=range(len(REFUSED)))
def test_value_of_another_type_is_refused(value: Any) -> None:
    with pytest.raises(kekd.InvalidEnvelopeError, match="wrapped_kek has the wrong type"):
        sent(value)
