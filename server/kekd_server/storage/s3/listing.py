"""Reads the XML documents of S3 that kekd needs: listings and errors."""

from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

_ROOT: Final = "ListBucketResult"
_SECONDS_LENGTH: Final = len("2000-01-01T00:00:00")


class ListedObject(NamedTuple):
    """Which version of an object there is."""

    key: str
    etag: str
    """Without quotes."""
    modified: str
    """UTC, in ISO 8601, to the second: responses to a get have no fractions."""


class ListPage(NamedTuple):
    objects: Sequence[ListedObject]
    next_token: str
    """Empty on the last page."""


class ErrorDocument(NamedTuple):
    code: str
    message: str
    region: str


def parse_listing(document: bytes, bucket: str) -> ListPage:
    """Raises `ValueError` if the document isn't a listing of the bucket."""
    root, namespace = _parse(document)
    if root.tag != namespace + _ROOT:
        raise ValueError(f"its root element is not {_ROOT}")

    def text(name: str) -> str:
        return root.findtext(namespace + name) or ""

    if text("Name") not in (bucket, ""):  # some servers omit it
        raise ValueError("it lists another bucket")
    token = text("NextContinuationToken")
    if text("IsTruncated") not in (("true",) if token else ("false",)):
        raise ValueError("it does not say whether more follows")
    decode = unquote_plus if text("EncodingType") == "url" else str
    objects = []
    for item in root.iterfind(f"{namespace}Contents"):
        key = item.findtext(f"{namespace}Key")
        etag = item.findtext(f"{namespace}ETag")
        modified = item.findtext(f"{namespace}LastModified")
        if not (key and etag and modified):
            raise ValueError("an entry has no key, etag or modification time")
        objects.append(ListedObject(decode(key), etag.strip('"'), modified[:_SECONDS_LENGTH]))
    return ListPage(objects, token)


def parse_error(document: bytes) -> ErrorDocument:
    """Raises `ValueError` if the document isn't an error of S3."""
    root, namespace = _parse(document)
    code = root.findtext(f"{namespace}Code")
    if root.tag != f"{namespace}Error" or not code:
        raise ValueError("its root element is not Error with a code")
    message = root.findtext(f"{namespace}Message") or ""
    return ErrorDocument(code, message, root.findtext(f"{namespace}Region") or "")


def _parse(document: bytes) -> tuple[ET.Element, str]:
    """Returns the root element, and the namespace of its children, which some servers omit."""
    try:
        # expat limits the expansion of entities, and ElementTree loads no external ones.
        root = ET.fromstring(document)  # noqa: S314
    except ET.ParseError as error:
        raise ValueError(f"it is not XML: {error}") from error
    return root, root.tag[: root.tag.rfind("}") + 1]
