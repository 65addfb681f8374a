"""Builds the documentation as a site in build/site, without a network.

The site has the repository's pages in the repository's folders. A page can link to any file that is
copied: to pages, and to files of deploy/, examples/ and protos/.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
COPIED: Final = ("*.md", "*.svg", "LICENSE", "deploy", "docs", "examples", "protos/kekd")
"""Patterns of Git."""
MERMAID: Final = Path(sys.prefix) / "mermaid.min.js"
"""Draws the diagrams. Otherwise, the site's pages would load it from another host."""


def main() -> None:
    pages = ROOT / "build" / "docs"
    shutil.rmtree(pages.parent, ignore_errors=True)
    for file in _tracked_files():
        (pages / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, pages / file)
    shutil.copyfile(MERMAID, pages / MERMAID.name)
    zensical = Path(sys.executable).with_name("zensical")
    command = [str(zensical), "build", "--strict"]
    sys.exit(subprocess.run(command, cwd=ROOT, check=False).returncode)


def _tracked_files() -> list[str]:
    """Returns the files that Git has or that are new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *COPIED]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


if __name__ == "__main__":
    main()
