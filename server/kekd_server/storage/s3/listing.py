"""Reads the XML documents of S3 that kekd needs: listings and errors."""

from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

_ROOT: Final = "ListBucketResult"


class ListedObject(NamedTuple):
    key: str
    etag: str
    """In quotes."""
    modified: str
    """ISO 8601; unchanged text, because only differences matter."""


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
    is_encoded = text("EncodingType") == "url"
    key, etag, modified = (namespace + name for name in ("Key", "ETag", "LastModified"))
    objects = []
    for item in root.iterfind(namespace + "Contents"):
        listed = ListedObject(
            item.findtext(key) or "", item.findtext(etag) or "", item.findtext(modified) or ""
        )
        if not all(listed):
            raise ValueError("an entry has no key, etag or modification time")
        objects.append(listed._replace(key=unquote_plus(listed.key)) if is_encoded else listed)
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
