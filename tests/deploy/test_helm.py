"""The Helm chart adds the same sidecar as the Kustomize component. Helm checks and renders it."""

from operator import itemgetter
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from helm_python import HelmError
from helm_python.chart import lint

from kekd_common.version import __version__
from kekd_server.config.loader import load
from tests.deploy.chart import HELM, rendered
from tests.deploy.test_kubernetes import KUBERNETES, OLDEST, built, containers, kekd, pod

_INFO = 1
"""Helm's severity of a recommendation."""


def test_charts_pass_helm_lint_in_strict_mode(example: Path) -> None:
    for chart in (HELM / "kekd", example):
        report = lint(chart, strict=True)
        assert report["errors"] == []
        assert [text for text in report["messages"] if text["severity"] > _INFO] == []


def test_manifests_match_their_schemas(example: Path) -> None:
    manifests = rendered(example)
    assert manifests.keys() == {"ConfigMap", "StatefulSet"}
    for manifest in manifests.values():
        for version in (OLDEST, kubernetes_validate.latest_version()):
            kubernetes_validate.validate(manifest, version, strict=True)


def test_sidecar_is_that_of_the_kustomize_component(example: Path) -> None:
    component, chart = kekd(built("overlays/existing")), kekd(rendered(example))
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert chart[probe]["httpGet"].pop("scheme") == "HTTP"
    assert chart.pop("imagePullPolicy") == "IfNotPresent"
    renamed = {"kekd-config": "kekd", "kekd-run": "run"}
    for mount in chart["volumeMounts"]:
        mount["name"] = renamed.get(mount["name"], mount["name"])
    for container in (component, chart):
        container["volumeMounts"].sort(key=itemgetter("mountPath"))
    assert chart == component


def test_volumes_are_mounted_and_the_configuration_is_valid(example: Path, tmp_path: Path) -> None:
    manifests = rendered(example)
    templates = manifests["StatefulSet"]["spec"]["volumeClaimTemplates"]
    volumes = {volume["name"] for volume in pod(manifests)["volumes"]} | {
        template["metadata"]["name"] for template in templates
    }
    for container in containers(manifests):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    file = tmp_path / "kekd.yaml"
    file.write_text(manifests["ConfigMap"]["data"]["kekd.yaml"])
    assert load({}, file).settings.metrics_listener
    (volume,) = [v for v in pod(manifests)["volumes"] if v["name"] == "kekd-config"]
    assert volume["configMap"]["name"] == manifests["ConfigMap"]["metadata"]["name"]


def test_metrics_with_tls_are_probed_over_https(example: Path) -> None:
    metrics = {"address": "0.0.0.0:1234", "tls_cert": "/c", "tls_key": "/k"}
    manifests = rendered(example, config={"metrics": metrics}, podMonitor={"enabled": True})
    assert kekd(manifests)["livenessProbe"]["httpGet"]["scheme"] == "HTTPS"
    assert kekd(manifests)["ports"] == [{"name": "metrics", "containerPort": 1234}]
    (endpoint,) = manifests["PodMonitor"]["spec"]["podMetricsEndpoints"]
    assert endpoint["scheme"] == "https"


def test_changed_configuration_changes_an_annotation_of_the_pod(example: Path) -> None:
    def annotations(**values: Any) -> dict[str, str]:
        template = rendered(example, **values)["StatefulSet"]["spec"]["template"]
        found: dict[str, str] = template["metadata"]["annotations"]
        return found

    assert annotations() != annotations(config={"log_format": "text"})


def test_unknown_value_is_rejected(example: Path) -> None:
    with pytest.raises(HelmError, match="imagee"):
        rendered(example, imagee={})


def test_versions_of_the_chart_and_the_image_are_that_of_kekd() -> None:
    chart = yaml.safe_load((HELM / "kekd" / "Chart.yaml").read_text())
    assert {chart["version"], chart["appVersion"]} == {__version__}
    (dependency,) = yaml.safe_load((HELM / "example" / "Chart.yaml").read_text())["dependencies"]
    assert dependency["version"] == __version__
    component = KUBERNETES / "components" / "sidecar" / "kustomization.yaml"
    (image,) = yaml.safe_load(component.read_text())["images"]
    assert image["newTag"] == __version__
