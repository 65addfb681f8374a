"""The Helm chart of the example, which has the chart of kekd as a dependency."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python.chart import Chart

HELM = Path(__file__).parents[2] / "deploy" / "helm"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The chart of the example, with its dependency, as `helm dependency build` makes it."""
    folder = shutil.copytree(HELM / "example", tmp_path / "example")
    shutil.copytree(HELM / "kekd", folder / "charts" / "kekd")
    return folder


def rendered(chart: Path, **values: Any) -> dict[str, dict[str, Any]]:
    with Chart.load(chart) as loaded:
        files = loaded.render({"kekd": values}, name="prod", namespace="database")
    manifests = [yaml.safe_load(text) for text in files.values()]
    return {manifest["kind"]: manifest for manifest in manifests if manifest}
