"""Where S3 is and how to reach it, which botocore finds out from AWS's configuration."""

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import botocore.session
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.httpsession import get_cert_path

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

from kekd_server.model.errors import StoreMisconfiguredError
from kekd_server.storage.location import AddressingStyle, S3Location

_PLACEHOLDER: Final = "k"
_HTTP_PORT: Final = 80
_HTTPS_PORT: Final = 443


@dataclass(frozen=True, slots=True)
class Proxy:
    host: str
    port: int
    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    bucket: str
    region: str
    """The region in signatures. If none is configured, it is that of AWS's global endpoint,
    `us-east-1`.
    """
    host: str
    port: int
    path: str
    """Precedes each key in a URL. Encoded; empty, or begins with a slash."""
    tls: ssl.SSLContext | None
    proxy: Proxy | None

    @property
    def url_host(self) -> str:
        """The host, with brackets if it is an IPv6 address."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def authority(self) -> str:
        """The Host header."""
        is_default = self.port == (_HTTPS_PORT if self.tls else _HTTP_PORT)
        return self.url_host if is_default else f"{self.url_host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    def __str__(self) -> str:
        return f"s3://{self.bucket} ({self.url})"


def resolve(location: S3Location) -> Endpoint:
    """Raises `StoreMisconfiguredError` if the bucket, region, profile, endpoint, CA or proxy is
    invalid.
    """
    try:
        return _resolve(location)
    except (BotoCoreError, OSError, ValueError) as error:
        raise StoreMisconfiguredError(
            f"the store {location} cannot be used: {error}; correct its settings or the environment"
        ) from error


def _resolve(location: S3Location) -> Endpoint:
    session = botocore.session.Session()
    request = _capture_request(session, location)
    url = urlsplit(request.url)
    if url.hostname is None:
        raise ValueError(f"the endpoint {location.endpoint} has no host")
    is_tls = url.scheme == "https"
    return Endpoint(
        location.bucket,
        _signed_region(request),
        url.hostname,
        url.port or (_HTTPS_PORT if is_tls else _HTTP_PORT),
        url.path.removesuffix(f"/{_PLACEHOLDER}"),
        _tls_context(session, location) if is_tls else None,
        _find_proxy(url.scheme, url.netloc),
    )


class _CapturedRequest(Exception):  # noqa: N818  (no error)
    def __init__(self, request: AWSPreparedRequest) -> None:
        self.request = request


def _capture_request(session: botocore.session.Session, location: S3Location) -> AWSPreparedRequest:
    """Returns the request that botocore would send to get an object of the bucket."""
    client: S3Client = cast("Any", session).create_client(
        "s3",
        region_name=location.region,
        endpoint_url=location.endpoint,
        aws_access_key_id=_PLACEHOLDER,
        aws_secret_access_key=_PLACEHOLDER,
        config=Config(
            signature_version="s3v4",
            retries={"total_max_attempts": 1},
            s3={"addressing_style": _addressing_style(location)},
        ),
    )

    def capture(request: AWSPreparedRequest, **_: object) -> None:
        raise _CapturedRequest(request)

    client.meta.events.register("before-send.s3.GetObject", capture)
    try:
        client.get_object(Bucket=location.bucket, Key=_PLACEHOLDER)
    except _CapturedRequest as captured:
        return captured.request
    raise AssertionError("botocore sent the request")


def _signed_region(request: AWSPreparedRequest) -> str:
    """Reads it from the credential scope: ID/date/region/service/aws4_request."""
    authorization = cast("bytes", request.headers["Authorization"]).decode()
    return authorization.partition("Credential=")[2].split("/")[2]


def _addressing_style(location: S3Location) -> AddressingStyle:
    # botocore would put the bucket into the host name, which few servers besides AWS's support.
    is_auto = location.addressing_style == "auto"
    return "path" if is_auto and location.endpoint else location.addressing_style


def _tls_context(session: botocore.session.Session, location: S3Location) -> ssl.SSLContext:
    bundle = session.get_config_variable("ca_bundle") or get_cert_path(verify=True)
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        is_invalid = isinstance(error, ssl.SSLError)
        cause = "it contains no valid certificates in PEM format" if is_invalid else error.strerror
        raise StoreMisconfiguredError(
            f"the store {location} cannot be used: cannot read the CA file {bundle}: {cause};"
            " correct AWS_CA_BUNDLE, or ca_bundle of the AWS profile"
        ) from error


def _find_proxy(scheme: str, netloc: str) -> Proxy | None:
    """Returns the proxy of HTTP_PROXY or HTTPS_PROXY, unless NO_PROXY excludes the host."""
    url = getproxies().get(scheme)
    if not url or proxy_bypass(netloc):
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or parts.hostname is None:
        raise ValueError(f"the proxy for {scheme} is not of the form http://HOST:PORT")
    return Proxy(
        parts.hostname,
        parts.port or _HTTP_PORT,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )
