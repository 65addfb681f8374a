"""The manifests that kustomize builds are valid by Kubernetes' schemas, and restricted."""

import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from kekd_server.config.loader import load
from tests.fixtures.daemon import BIN
from tests.fixtures.metrics import Scraped, StartScraped
from tests.patience import PATIENCE

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
OLDEST = "1.34"
"""The oldest version that the validator supports. Sidecars came with 1.29."""
PROBES = ("startupProbe", "livenessProbe", "readinessProbe")

Manifest = dict[str, Any]


def built(folder: str) -> dict[str, Manifest]:
    """Returns the manifests by their kinds. Each kind occurs once."""
    command = [str(BIN / "kubectl"), "kustomize", str(KUBERNETES / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(done.stdout)}


@pytest.fixture(scope="module")
def existing() -> dict[str, Manifest]:
    return built("overlays/existing")


@pytest.fixture(scope="module", params=["base", "overlays/s3-irsa"])
def manifests(request: pytest.FixtureRequest) -> dict[str, Manifest]:
    return built(request.param)


@pytest.fixture(scope="module")
def irsa() -> dict[str, Manifest]:
    return built("overlays/s3-irsa")


@pytest.fixture
def memory_scraped(start_scraped: StartScraped) -> Scraped:
    return start_scraped("--memory")


def pod(manifests: dict[str, Manifest]) -> Manifest:
    found: Manifest = manifests["StatefulSet"]["spec"]["template"]["spec"]
    return found


def containers(manifests: dict[str, Manifest]) -> list[Manifest]:
    return [*pod(manifests)["initContainers"], *pod(manifests)["containers"]]


def kekd(manifests: dict[str, Manifest]) -> Manifest:
    (found,) = pod(manifests)["initContainers"]
    container: Manifest = found
    return container


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_every_manifest_matches_its_schema(manifests: dict[str, Manifest], version: str) -> None:
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_kekd_is_a_native_sidecar(manifests: dict[str, Manifest]) -> None:
    assert kekd(manifests)["restartPolicy"] == "Always"


def test_settings_are_valid(manifests: dict[str, Manifest], tmp_path: Path) -> None:
    file = tmp_path / "kekd.yaml"
    file.write_text(manifests["ConfigMap"]["data"]["kekd.yaml"])
    (listener,) = load({}, file).settings.listeners
    for container in containers(manifests):
        (address,) = [
            variable["value"] for variable in container["env"] if variable["name"] == "KEKD_ADDRESS"
        ]
        assert address == str(listener)
        folder = address.removeprefix("unix:").split("/kekd/")[0]
        assert folder in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_mounted_config_map_has_the_settings(manifests: dict[str, Manifest]) -> None:
    (volume,) = [volume for volume in pod(manifests)["volumes"] if volume["name"] == "kekd"]
    assert volume["configMap"]["name"] == manifests["ConfigMap"]["metadata"]["name"]


@pytest.mark.parametrize("probe", PROBES)
def test_each_probe_succeeds_while_kekd_serves(
    manifests: dict[str, Manifest], memory_scraped: Scraped, probe: str
) -> None:
    path = kekd(manifests)[probe]["httpGet"]["path"]
    url = memory_scraped.url.replace("/metrics", path)
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        assert answer.read() == b"ok\n"


def test_probes_use_the_port_of_the_metrics(manifests: dict[str, Manifest], tmp_path: Path) -> None:
    file = tmp_path / "kekd.yaml"
    file.write_text(manifests["ConfigMap"]["data"]["kekd.yaml"])
    metrics = load({}, file).settings.metrics_listener
    assert metrics
    assert not metrics.is_local
    assert kekd(manifests)["ports"] == [{"name": "metrics", "containerPort": metrics.port}]
    assert {kekd(manifests)[probe]["httpGet"]["port"] for probe in PROBES} == {"metrics"}


def test_nothing_is_restarted_for_a_store_that_is_down(manifests: dict[str, Manifest]) -> None:
    paths = {probe: kekd(manifests)[probe]["httpGet"]["path"] for probe in PROBES}
    assert paths == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }


def test_pod_is_restricted(manifests: dict[str, Manifest]) -> None:
    """Follows https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    whole = pod(manifests)["securityContext"]
    assert whole["runAsNonRoot"]
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(manifests):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"].keys() == {"memory"}
    assert kekd(manifests)["resources"]["limits"] == {"memory": "512Mi"}
    kinds = [volume.keys() - {"name"} for volume in pod(manifests)["volumes"]]
    assert set[str]().union(*kinds) <= {"configMap", "emptyDir"}


def test_manifests_select_the_same_pods(manifests: dict[str, Manifest]) -> None:
    labels = manifests["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    selector = {"app.kubernetes.io/name": "cyborgdb"}
    assert selector.items() <= labels.items()
    assert manifests["StatefulSet"]["spec"]["selector"]["matchLabels"] == selector
    assert manifests["Service"]["spec"]["selector"] == selector
    assert manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == selector


def test_every_object_has_the_recommended_labels(manifests: dict[str, Manifest]) -> None:
    """Follows https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/."""
    names = {f"app.kubernetes.io/{name}" for name in ("name", "part-of", "managed-by")}
    for manifest in manifests.values():
        assert names <= manifest["metadata"]["labels"].keys(), manifest["kind"]
    assert names <= manifests["StatefulSet"]["spec"]["template"]["metadata"]["labels"].keys()


def test_component_adds_the_same_sidecar_to_an_existing_statefulset(
    existing: dict[str, Manifest], irsa: dict[str, Manifest], tmp_path: Path
) -> None:
    kubernetes_validate.validate(existing["StatefulSet"], OLDEST, strict=True)
    before = yaml.safe_load((KUBERNETES / "overlays/existing/existing.yaml").read_text())
    after = existing["StatefulSet"]["spec"]
    for unchanged in ("selector", "serviceName", "volumeClaimTemplates"):
        assert after[unchanged] == before["spec"][unchanged]
    shared = {"mountPath": "/var/lib/cyborgdb", "name": "data"}
    own = [mount for mount in kekd(existing)["volumeMounts"] if mount != shared]
    assert {**kekd(existing), "volumeMounts": own} == kekd(irsa)
    (database,) = pod(existing)["containers"]
    assert shared in database["volumeMounts"]
    file = tmp_path / "kekd.yaml"
    file.write_text(existing["ConfigMap"]["data"]["kekd.yaml"])
    settings = load({}, file).settings
    assert [str(disk.path) for disk in settings.disk] == [shared["mountPath"]]
    variables = {variable["name"]: variable["value"] for variable in database["env"]}
    assert variables["KEKD_ADDRESS"] == str(settings.listeners[0])


def test_pod_monitor_selects_the_pods_with_the_sidecar_and_the_job_of_the_alerts(
    existing: dict[str, Manifest],
) -> None:
    monitor = existing["PodMonitor"]["spec"]
    labels = existing["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in kekd(existing)["ports"]}
    job = {
        relabeling["targetLabel"]: relabeling["replacement"]
        for relabeling in endpoint["relabelings"]
    }
    assert f'up{{job="{job["job"]}"}}' in (KUBERNETES.parent / "prometheus/alerts.yaml").read_text()


def test_network_policy_admits_only_clients_and_prometheus(
    manifests: dict[str, Manifest],
) -> None:
    policy = manifests["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    ports = {port["name"] for container in containers(manifests) for port in container["ports"]}
    assert {rule["ports"][0]["port"] for rule in policy["ingress"]} == ports
    assert all(rule["from"] and len(rule["ports"]) == 1 for rule in policy["ingress"])


def test_manifests_with_s3_have_no_disk(irsa: dict[str, Manifest]) -> None:
    assert "volumeClaimTemplates" not in irsa["StatefulSet"]["spec"]
    assert "keystore" not in {mount["name"] for mount in kekd(irsa)["volumeMounts"]}
    settings = yaml.safe_load(irsa["ConfigMap"]["data"]["kekd.yaml"])
    assert "disk" not in settings
    assert settings["s3"]


def test_pod_with_s3_has_the_role_of_its_service_account(irsa: dict[str, Manifest]) -> None:
    account = irsa["ServiceAccount"]["metadata"]
    assert pod(irsa)["serviceAccountName"] == account["name"]
    assert account["annotations"]["eks.amazonaws.com/role-arn"].startswith("arn:aws:iam::")
