"""The documentation as a site: it is built without a network, and a browser shows it."""

import http.server
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

import kekd
import kekd.cyborgdb
import kekd.kek
import kekd.testing
from tests.fixtures.browser import Browser, browser
from tests.fixtures.debian import alone
from tests.fixtures.network import private_network
from tests.patience import eventually

__all__ = ["browser"]

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, which is built in strict mode: a warning fails the build."""
    copy = tmp_path_factory.mktemp("docs") / "site"
    with alone("site"), private_network() as network:
        subprocess.run(["make", ".venv/mermaid.min.js"], cwd=ROOT, check=True)
        command = [*network, sys.executable, "website/build.py"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        shutil.copytree(ROOT / "build" / "site", copy)
    return copy


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    handler = partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_front_page_shows_its_title_navigation_and_a_colored_code_example(
    browser: Browser, url: str
) -> None:
    browser.open(url)
    assert browser.run("return document.querySelector('h1').innerText").startswith("kekd")
    links = "return [...document.querySelectorAll('nav a')].map(link => link.textContent.trim())"
    assert {"Quickstart", "Install", "Deploy", "Decisions"} <= set(browser.run(links))
    word = "[...document.querySelectorAll('pre span')].find(span => span.textContent == 'import')"
    colors = [f"getComputedStyle({element}).color" for element in (word, "document.body")]
    keyword, text = browser.run(f"return [{', '.join(colors)}]")
    assert keyword != text


def test_search_finds_a_page_by_its_text(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.run("document.querySelector('.md-search__button').click()")
    focus = "return document.activeElement.shadowRoot?.activeElement?.tagName"
    eventually(lambda: browser.run(focus) == "INPUT")
    browser.type("socket activation")
    results = "return document.activeElement.shadowRoot.textContent"
    eventually(lambda: "kekd has no socket activation" in browser.run(results))


def test_diagram_is_drawn(browser: Browser, url: str) -> None:
    browser.open(f"{url}/docs/architecture/")
    # The code is a `pre`, which the diagram replaces.
    drawn = "return document.querySelector('.mermaid:not(pre)')?.offsetHeight > 100"
    eventually(lambda: browser.run(drawn))


@pytest.mark.parametrize("page", ["", "docs/architecture/", "docs/python-api/", "bench/"])
def test_page_loads_nothing_from_another_host(browser: Browser, url: str, page: str) -> None:
    browser.open(f"{url}/{page}")
    loaded = browser.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert loaded
    assert [name for name in loaded if not name.startswith((url, "data:", "blob:"))] == []


def test_python_api_has_every_public_name(browser: Browser, url: str) -> None:
    browser.open(f"{url}/docs/python-api/")
    shown = browser.run(
        "return [...document.querySelectorAll('h3')].map(heading => heading.innerText)"
    )
    names = {name.split()[0].strip("¶") for name in shown}
    public = {*kekd.__all__, *kekd.kek.__all__, *kekd.testing.__all__, *kekd.cyborgdb.__all__}
    assert public - {"__version__"} <= names


def test_every_page_is_in_the_navigation_or_a_decision() -> None:
    text = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    listed = {page for page in yaml.safe_load(f"nav:{text}")["nav"] for page in _pages(page)}
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")}
    assert pages <= listed


def _pages(entry: object) -> Iterator[str]:
    match entry:
        case str():
            yield entry
        case dict():
            for value in entry.values():
                yield from _pages(value)
        case list():
            for value in entry:
                yield from _pages(value)
