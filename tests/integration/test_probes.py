"""Probes over HTTP and HTTPS, at the metrics address of a daemon."""

import ssl
import urllib.error
import urllib.request
from email.message import Message
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from cryptography import x509

from tests.fixtures.daemon import BIN, StartDaemon, refusal
from tests.fixtures.metrics import StartScraped
from tests.fixtures.s3 import free_port
from tests.fixtures.tls import Authority, Pair
from tests.fixtures.workers import StartWorkers
from tests.patience import PATIENCE, eventually


def probe(url: str, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    """Returns the status and the text."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def succeeds(url: str) -> bool:
    return probe(url) == (200, "ok\n")


def test_daemon_that_serves_is_ready_for_each_of_its_stores(
    start_scraped: StartScraped, tmp_path: Path
) -> None:
    scraped = start_scraped("--disk", str(tmp_path / "keystore"), "--memory")
    base = scraped.url.removesuffix("/metrics")
    assert probe(f"{base}/livez") == (200, "ok\n")
    for store in ("", "/memory", f"/disk:{tmp_path}/keystore"):
        eventually(partial(succeeds, f"{base}/readyz{store}"))
    assert probe(f"{base}/readyz/s3:other")[0] == 404
    assert "2 of 2 can be read" in probe(f"{base}/readyz?verbose")[1]


def request(url: str, method: str) -> tuple[int, Message, bytes]:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=PATIENCE)
    connection.request(method, parts.path)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read()


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/nonexistent"])
def test_head_has_the_status_and_headers_of_get_without_content(
    start_scraped: StartScraped, path: str
) -> None:
    url = start_scraped("--memory").url.removesuffix("/metrics") + path
    status, headers, content = request(url, "GET")
    head_status, head_headers, head_content = request(url, "HEAD")
    assert (head_status, head_headers.keys()) == (status, headers.keys())
    assert head_headers["Content-Type"] == headers["Content-Type"]
    assert content
    assert not head_content


def test_other_method_is_not_allowed(start_scraped: StartScraped) -> None:
    url = start_scraped("--memory").url
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "OTHER"):
        status, headers, content = request(url, method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
        assert content == b"method not allowed: use GET or HEAD\n"


def test_store_that_is_gone_is_not_ready_and_the_daemon_stays_live(
    start_scraped: StartScraped, tmp_path: Path
) -> None:
    keystore = tmp_path / "keystore"
    scraped = start_scraped("--disk", str(keystore), "--memory")
    base = scraped.url.removesuffix("/metrics")
    keystore.rename(tmp_path / "gone")
    eventually(lambda: probe(f"{base}/readyz/disk:{keystore}")[0] == 503)
    assert [probe(f"{base}{path}")[0] for path in ("/livez", "/readyz", "/readyz/memory")] == [
        *[200] * 3
    ]


def test_workers_are_ready_while_each_store_answers_to_all(
    start_workers: StartWorkers, tmp_path: Path
) -> None:
    port = free_port()
    start_workers("--metrics", f"127.0.0.1:{port}")
    base = f"http://127.0.0.1:{port}"
    assert probe(f"{base}/livez") == (200, "ok\n")
    eventually(lambda: probe(f"{base}/readyz/disk:{tmp_path}/keystore") == (200, "ok\n"))
    (tmp_path / "keystore").rename(tmp_path / "gone")
    eventually(lambda: probe(f"{base}/readyz")[0] == 503)
    assert probe(f"{base}/livez") == (200, "ok\n")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


@pytest.fixture
def pair(authority: Authority, tmp_path: Path) -> Pair:
    return authority.issue(tmp_path / "metrics")


@pytest.fixture
def url(start_daemon: StartDaemon, authority: Authority, pair: Pair) -> str:
    """The metrics address of a daemon that requires certificates there."""
    port = free_port()
    metrics = {
        "address": f"127.0.0.1:{port}",
        "tls_cert": str(pair.cert),
        "tls_key": str(pair.key),
        "tls_client_ca": str(authority.cert),
    }
    start_daemon(config={"memory": True, "metrics": metrics})
    return f"https://localhost:{port}"


def client_of(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.cert))
    if pair:
        context.load_cert_chain(pair.cert, pair.key)
    return context


def test_probes_over_tls_need_no_certificate_and_metrics_do(
    url: str, authority: Authority, tmp_path: Path
) -> None:
    stranger = client_of(authority)
    assert probe(f"{url}/livez", stranger) == (200, "ok\n")
    eventually(lambda: probe(f"{url}/readyz", stranger) == (200, "ok\n"))
    assert probe(f"{url}/metrics", stranger) == (
        403,
        "the metrics require a client certificate; present one\n",
    )
    prometheus = client_of(authority, authority.issue(tmp_path / "prometheus"))
    status, text = probe(f"{url}/metrics", prometheus)
    assert status == 200
    assert "kekd_build_info{" in text


def test_certificate_of_another_ca_is_refused(
    url: str, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    client = client_of(authority, other.issue(tmp_path / "client"))
    with pytest.raises(OSError, match=r"alert|reset|closed|EOF"):
        urllib.request.urlopen(f"{url}/metrics", timeout=PATIENCE, context=client)


def test_renewed_certificate_is_used_for_new_connections(
    url: str, authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    renewed = authority.issue(tmp_path / "renewed")
    serial = renewed.serial
    pair.replace(renewed)
    address = ("127.0.0.1", int(url.rpartition(":")[2]))

    def served() -> int:
        pem = ssl.get_server_certificate(address, timeout=PATIENCE)
        return x509.load_pem_x509_certificate(pem.encode()).serial_number

    eventually(lambda: served() == serial)


def test_key_of_another_certificate_is_rejected_at_the_start(
    authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    other = authority.issue(tmp_path / "other")
    metrics = {"address": "127.0.0.1:1", "tls_cert": str(pair.cert), "tls_key": str(other.key)}
    file = tmp_path / "kekd.yaml"
    file.write_text(yaml.safe_dump({"memory": True, "metrics": metrics}))
    said = refusal(BIN / "kekd", "--listen", f"unix:{tmp_path}/s", "--config", file)
    assert f"{other.key}: not the key of {pair.cert}" in said
