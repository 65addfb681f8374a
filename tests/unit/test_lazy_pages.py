"""The client decodes the envelopes of a page when they are taken."""

import pytest

from kekd._transport import convert
from kekd_proto.v1 import envelope_pb2 as pb


def test_envelope_is_decoded_when_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    parse_listed = convert.parse_listed

    def note(listed: pb.ListedEnvelope, store: str) -> object:
        decoded.append(listed.index_name)
        return parse_listed(listed, store)

    monkeypatch.setattr(convert, "parse_listed", note)
    listed = [pb.ListedEnvelope(index_name=name, etag=name) for name in "ab"]
    page = convert.parse_page(pb.ListEnvelopesResponse(envelopes=listed, store="memory"))
    assert decoded == []
    name, blob = next(page)
    assert (name, decoded) == ("a", ["a"])
    assert (getattr(blob, "etag", ""), getattr(blob, "store", "")) == ("a", "memory")
    assert [name for name, _ in page] == ["b"]
