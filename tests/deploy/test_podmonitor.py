"""The PodMonitors match the schema of the Prometheus operator."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.chart import rendered
from tests.deploy.test_kubernetes import Manifest, built
from tests.fixtures.debian import alone

pytestmark = pytest.mark.slow

PACKAGE = "@kubernetes-models/prometheus-operator"
"""Of npm, generated from the operator's CRDs."""
VERSION = "6.0.0"
VALIDATE = f"""
import {{readFileSync}} from "node:fs";
import {{PodMonitor}} from "{PACKAGE}/monitoring.coreos.com/v1/PodMonitor";
new PodMonitor(JSON.parse(readFileSync(0))).validate();
"""


@pytest.fixture(scope="module")
def validators() -> Path:
    """A folder with the package, beside the virtual environment."""
    folder = Path(sys.prefix) / "npm" / "prometheus-operator"
    with alone("npm"):
        if not (folder / "node_modules").exists():
            folder.mkdir(parents=True, exist_ok=True)
            # npm installs beside the next package.json. --prefix would hide the machine's npmrc.
            (folder / "package.json").write_text("{}")
            command = ["npm", "install", "--ignore-scripts", f"{PACKAGE}@{VERSION}"]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


def validate(manifest: Manifest, validators: Path) -> str:
    """Returns what is wrong, or nothing."""
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", VALIDATE],
        cwd=validators,
        input=json.dumps(manifest),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr


def test_pod_monitor_of_the_component_matches_the_schema(validators: Path) -> None:
    assert validate(built("overlays/existing")["PodMonitor"], validators) == ""


@pytest.mark.parametrize(
    "tls_config", [{}, {"ca": {"secret": {"name": "kekd-ca", "key": "ca.crt"}}, "serverName": "k"}]
)
def test_pod_monitor_of_the_chart_matches_the_schema(
    example: Path, validators: Path, tls_config: dict[str, Any]
) -> None:
    monitor = {"enabled": True, "tlsConfig": tls_config}
    manifest = rendered(example, podMonitor=monitor)["PodMonitor"]
    (endpoint,) = manifest["spec"]["podMetricsEndpoints"]
    assert endpoint.get("tlsConfig", {}) == tls_config
    assert validate(manifest, validators) == ""
    endpoint["port"] = 9464
    assert "podMetricsEndpoints/0/port must be string" in validate(manifest, validators)
