"""Asks the resolver whether kekd can be installed beside packages that limit its dependencies.

`python -m bench.conflicts` prints the table of docs/install.md.
"""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

PACKAGES: Final = (
    "apache-beam",
    "feast",
    "flwr",
    "kfp",
    "kserve",
    "ortools",
    "pulumi",
    "snowflake-connector-python",
    "tritonclient[grpc]",
    "weaviate-client",
)
"""Each requires a protobuf below 7, or a tenacity below 9."""
_SHARED: Final = ("protobuf", "grpcio", "click")
_ROOT: Final = Path(__file__).parents[1]
_UV: Final = Path(sys.executable).with_name("uv")


def resolve(*requirements: str) -> dict[str, str]:
    """Returns the versions that satisfy the requirements. Raises CalledProcessError if none do."""
    done = subprocess.run(
        [_UV, "pip", "compile", "--quiet", "--no-header", "--no-annotate", "-"],
        input="\n".join(requirements),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    pins = (line.split("==") for line in done.stdout.splitlines() if "==" in line)
    return {name.partition("[")[0]: version for name, version in pins}


def main() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    print(f"| package | newest version | {' | '.join(_SHARED)} |")
    print(f"|---|---|{'---|' * len(_SHARED)}")
    for package in PACKAGES:
        newest = resolve(package)[package.partition("[")[0]]
        versions = resolve(f"{package}=={newest}", *project["dependencies"])
        print(f"| {package} | {newest} | {' | '.join(versions[name] for name in _SHARED)} |")


if __name__ == "__main__":
    main()
