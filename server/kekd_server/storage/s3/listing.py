"""Reads the XML documents of S3 that kekd needs: listings, versioning and errors."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple
from urllib.parse import unquote_plus
from xml.etree import ElementTree as ET

NULL_VERSION: Final = "null"
"""The id of an object that was written while the bucket had no versioning."""
_ROOT: Final = "ListBucketResult"
_VERSIONS_ROOT: Final = "ListVersionsResult"
_VERSIONING_ROOTS: Final = ("VersioningConfiguration", "GetBucketVersioningResponse")
"""moto sends the second one."""
_SECONDS_LENGTH: Final = len("2000-01-01T00:00:00")


class ListedObject(NamedTuple):
    """Which version of an object there is."""

    key: str
    etag: str
    """Without quotes."""
    modified: str
    """UTC, in ISO 8601, to the second: responses to a get have no fractions."""
    size: int = 0


class ListPage(NamedTuple):
    objects: Sequence[ListedObject]
    next_token: str
    """Empty on the last page."""


class ListedVersion(NamedTuple):
    """A version that S3 itself keeps, or the mark of a deletion."""

    key: str
    id: str
    """Empty for an object that was written while the bucket had no versioning."""
    etag: str
    """Without quotes; empty for a deletion."""
    size: int
    modified_ns: int
    """See `end_of_second`."""
    is_latest: bool
    is_deletion: bool


class VersionsPage(NamedTuple):
    versions: Sequence[ListedVersion]
    """Of each key, the newest first."""
    next_key: str
    """Empty on the last page."""
    next_id: str


class ErrorDocument(NamedTuple):
    code: str
    message: str
    region: str


def parse_listing(document: bytes, bucket: str) -> ListPage:
    """Raises `ValueError` if the document isn't a listing of the bucket."""
    root, namespace = _parse_listing(document, bucket, _ROOT)
    token = _next_token(root, namespace, "NextContinuationToken")
    decode = _decoder(root, namespace)
    objects = []
    for item in root.iterfind(f"{namespace}Contents"):
        key = item.findtext(f"{namespace}Key")
        etag = item.findtext(f"{namespace}ETag")
        modified = item.findtext(f"{namespace}LastModified")
        if not (key and etag and modified):
            raise ValueError("an entry has no key, etag or modification time")
        size = int(item.findtext(f"{namespace}Size") or 0)
        objects.append(ListedObject(decode(key), etag.strip('"'), modified[:_SECONDS_LENGTH], size))
    return ListPage(objects, token)


def parse_versions(document: bytes, bucket: str) -> VersionsPage:
    """Raises `ValueError` if the document isn't a listing of versions of the bucket."""
    root, namespace = _parse_listing(document, bucket, _VERSIONS_ROOT)
    next_key = _next_token(root, namespace, "NextKeyMarker")
    decode = _decoder(root, namespace)
    versions = [
        _parse_version(item, namespace, decode, is_deletion=item.tag == f"{namespace}DeleteMarker")
        for item in root
        if item.tag in (f"{namespace}Version", f"{namespace}DeleteMarker")
    ]
    next_id = root.findtext(f"{namespace}NextVersionIdMarker") or ""
    return VersionsPage(versions, decode(next_key), next_id)


def parse_versioning(document: bytes) -> str:
    """Returns `Enabled`, `Suspended`, or an empty text if the bucket never had versioning. Raises
    `ValueError` if the document is another one.
    """
    root, namespace = _parse(document)
    if root.tag.removeprefix(namespace) not in _VERSIONING_ROOTS:
        raise ValueError(f"its root element is not {_VERSIONING_ROOTS[0]}")
    return root.findtext(f"{namespace}Status") or ""


def end_of_second(time: datetime) -> int:
    """Returns the last nanosecond of the second, since the Unix epoch. S3 truncates its times to
    seconds, so the object was written no later.
    """
    return int(time.timestamp()) * 10**9 + 999_999_999


def parse_error(document: bytes) -> ErrorDocument:
    """Raises `ValueError` if the document isn't an error of S3."""
    root, namespace = _parse(document)
    code = root.findtext(f"{namespace}Code")
    if root.tag != f"{namespace}Error" or not code:
        raise ValueError("its root element is not Error with a code")
    message = root.findtext(f"{namespace}Message") or ""
    return ErrorDocument(code, message, root.findtext(f"{namespace}Region") or "")


def _parse_listing(document: bytes, bucket: str, root_name: str) -> tuple[ET.Element, str]:
    root, namespace = _parse(document)
    if root.tag != namespace + root_name:
        raise ValueError(f"its root element is not {root_name}")
    if (root.findtext(f"{namespace}Name") or "") not in (bucket, ""):  # some servers omit it
        raise ValueError("it lists another bucket")
    return root, namespace


def _next_token(root: ET.Element, namespace: str, name: str) -> str:
    """Returns what the next page is requested with; empty if there is none."""
    token = root.findtext(namespace + name) or ""
    if root.findtext(f"{namespace}IsTruncated") not in (("true",) if token else ("false",)):
        raise ValueError("it does not say whether more follows")
    return token


def _decoder(root: ET.Element, namespace: str) -> Callable[[str], str]:
    is_encoded = root.findtext(f"{namespace}EncodingType") == "url"
    return unquote_plus if is_encoded else str


def _parse_version(
    item: ET.Element, namespace: str, decode: Callable[[str], str], *, is_deletion: bool
) -> ListedVersion:
    def text(name: str) -> str:
        return item.findtext(namespace + name) or ""

    key, version_id, modified = text("Key"), text("VersionId"), text("LastModified")
    if not (key and version_id and modified and (is_deletion or text("ETag"))):
        raise ValueError("a version has no key, id, etag or modification time")
    return ListedVersion(
        key=decode(key),
        id="" if version_id == NULL_VERSION else version_id,
        etag=text("ETag").strip('"'),
        size=int(text("Size") or 0),
        modified_ns=end_of_second(
            datetime.fromisoformat(modified[:_SECONDS_LENGTH]).replace(tzinfo=UTC)
        ),
        is_latest=text("IsLatest") == "true",
        is_deletion=is_deletion,
    )


def _parse(document: bytes) -> tuple[ET.Element, str]:
    """Returns the root element, and the namespace of its children, which some servers omit."""
    try:
        # expat limits the expansion of entities, and ElementTree loads no external ones.
        root = ET.fromstring(document)  # noqa: S314
    except ET.ParseError as error:
        raise ValueError(f"it is not XML: {error}") from error
    return root, root.tag[: root.tag.rfind("}") + 1]
