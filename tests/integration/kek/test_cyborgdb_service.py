"""CyborgDB Service 0.18 and kekd on one keystore and one registry file."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kekd
from kekd.kek import Registry, Slot
from kekd.kek.errors import SlotNotFoundError
from tests.fixtures.kms import Aws
from tests.integration.kek import registry_file
from tests.integration.kek.providers import each_bound_slot, each_provider

OWN = bytes(range(32))


class RefusedError(Exception):
    """An error that the service raised."""

    def __init__(self, kinds: list[str], text: str) -> None:
        super().__init__(text)
        self.kinds = kinds
        """The names of the exception's class and its bases."""


class Service:
    """A process of the service: see `cyborgdb_service_peer`."""

    def __init__(self, keystore: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.kek.cyborgdb_service_peer", str(keystore)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def __call__(self, function: str, *arguments: str | None) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps([function, *arguments]), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline())
        if "kinds" in answer:
            raise RefusedError(**answer)
        return answer["result"]

    def kek(self, function: str, *arguments: str | None) -> bytes:
        return bytes.fromhex(self(function, *arguments))


@pytest.fixture
def path(slots: dict[str, Slot], tmp_path: Path) -> Path:
    """The registry file that both use."""
    return registry_file.write(tmp_path / "cyborgdb.yaml", slots.values())


StartService = Callable[[], Service]


@pytest.fixture
def start_service(
    aws: Aws, client: kekd.Client, keystore: Path, path: Path
) -> Iterator[StartService]:
    environment = {
        "CYBORGDB_CONFIG_FILE": str(path),
        "KEKD_ADDRESS": client.address,
        "AWS_ENDPOINT_URL": aws.endpoint,
    }
    with ExitStack() as stack:

        def start() -> Service:
            service = Service(keystore, environment)
            stack.enter_context(service.process)
            stack.callback(service.process.kill)
            return service

        yield start


@pytest.fixture
def service(start_service: StartService) -> Service:
    return start_service()


@pytest.fixture
def registry(aws: Aws, path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint)
    return Registry.from_yaml(path)


LACKING = {"aws": [], "aws-kms": ["key_arn"]}
"""The fields that envelopes of the service lack, because its slots have aliases."""


def drifted(registry: Registry, envelope: kekd.KMSBlob) -> list[str]:
    return [line.split(" ")[0] for line in registry.drift("i", envelope)]


@each_provider
def test_kekd_unwraps_what_the_service_wrapped(
    service: Service, registry: Registry, client: kekd.Client, slot: str
) -> None:
    kek = service.kek("provision", "i", slot)
    stored = client.get_index_kms(None, "i")
    assert registry.unwrap("i", stored) == kek
    assert drifted(registry, stored) == LACKING[slot]


@each_provider
def test_service_unwraps_what_kekd_wrapped(
    service: Service, registry: Registry, client: kekd.Client, slot: str
) -> None:
    kek, _ = registry.provision("i", slot, client=client)
    assert service.kek("load", "i") == kek
    report = service("sync", "i")
    assert (report["unchanged"], report["rotated"], report["errors"]) == (["i"], [], [])


@each_provider
@pytest.mark.parametrize("into", ["other-aws", "other-aws-kms"])
def test_service_unwraps_its_kek_after_kekd_rotated_it(
    service: Service, registry: Registry, client: kekd.Client, slot: str, into: str
) -> None:
    kek = service.kek("provision", "i", slot)
    registry.rotate("i", into, client=client)
    assert service.kek("load", "i") == kek


def test_provider_none_works_in_both_directions(
    service: Service, registry: Registry, client: kekd.Client
) -> None:
    assert service.kek("provision", "theirs", None, OWN.hex()) == OWN
    assert registry.unwrap("theirs", client.get_index_kms(None, "theirs"), kek=OWN) == OWN
    registry.provision("ours", client=client, kek=OWN)
    assert service.kek("load", "ours", OWN.hex()) == OWN
    with pytest.raises(RefusedError, match="client_kek required"):
        service("load", "ours")


@each_provider
def test_service_does_not_overwrite_an_envelope(
    service: Service, registry: Registry, client: kekd.Client, slot: str
) -> None:
    _, envelope = registry.provision("i", slot, client=client)
    with pytest.raises(RefusedError, match="KMS blob already exists") as refused:
        service("provision", "i", slot)
    assert "ValueError" in refused.value.kinds
    assert client.get_index_kms(None, "i").etag == envelope.etag


def test_service_deletes_an_envelope_of_kekd(
    service: Service, registry: Registry, client: kekd.Client
) -> None:
    registry.provision("i", "aws", client=client)
    for _ in range(2):
        service("delete", "i")
        assert list(client.list_index_kms()) == []


def test_missing_envelope_is_missing_for_the_service(service: Service) -> None:
    with pytest.raises(RefusedError, match="No KMS envelope for index 'i'") as refused:
        service("load", "i")
    assert refused.value.kinds[0] == "KeyError"
    assert service("sync", "i")["skipped"] == ["i"]


def test_corrupt_envelope_is_not_missing_for_the_service(
    service: Service, registry: Registry, client: kekd.Client, keystore: Path
) -> None:
    registry.provision("i", "aws", client=client)
    (keystore / "_catalog" / "config" / "i.kms.cat").write_bytes(b"damaged")
    with pytest.raises(RefusedError) as refused:
        service("load", "i")
    assert "ValueError" in refused.value.kinds
    assert "KeyError" not in refused.value.kinds


@each_bound_slot
def test_service_refuses_a_bound_kek(
    slots: dict[str, Slot], service: Service, client: kekd.Client, slot: str
) -> None:
    Registry(slots).provision("i", slot, client=client)
    with pytest.raises(RefusedError) as refused:
        service("load", "i")
    assert refused.value.kinds[0] == "KMSError"


@each_provider
def test_service_replaces_the_kek_after_a_slot_change(
    start_service: StartService,
    registry: Registry,
    client: kekd.Client,
    path: Path,
    slots: dict[str, Slot],
    slot: str,
) -> None:
    kek, _ = registry.provision("i", slot, client=client)
    registry.provision("other", f"other-{slot}", client=client)
    changed = slots | {slot: replace(slots[f"other-{slot}"], name=slot)}
    registry_file.write(path, changed.values())

    report = start_service()("sync", "i", "other")
    assert (report["rotated"], report["unchanged"], report["errors"]) == (["i"], ["other"], [])
    ((index_name, old_kek, new_kek),) = report["rekeyed"]
    assert (index_name, old_kek) == ("i", kek.hex())

    pushed = client.get_index_kms(None, "i")
    assert (pushed.kms_name, pushed.key_id) == (slot, changed[slot].key_id)
    registry = Registry.from_yaml(path)
    assert registry.unwrap("i", pushed).hex() == new_kek != old_kek
    assert drifted(registry, pushed) == LACKING[slot]


@each_provider
def test_service_keeps_the_kek_that_kekd_rotated_to_the_new_slot(
    start_service: StartService,
    registry: Registry,
    client: kekd.Client,
    path: Path,
    slots: dict[str, Slot],
    slot: str,
) -> None:
    kek, _ = registry.provision("i", slot, client=client)
    changed = slots | {slot: replace(slots[f"other-{slot}"], name=slot)}
    registry = Registry.from_yaml(registry_file.write(path, changed.values()))
    registry.rotate("i", client=client)
    service = start_service()
    assert service("sync", "i")["unchanged"] == ["i"]
    assert service.kek("load", "i") == kek


def test_both_report_an_envelope_without_its_slot(
    start_service: StartService,
    registry: Registry,
    client: kekd.Client,
    path: Path,
    slots: dict[str, Slot],
) -> None:
    registry.provision("i", "aws", client=client)
    registry_file.write(path, [slots["aws-kms"]])
    service = start_service()
    assert service("sync", "i")["errors"] == ["i: stored kms_name='aws' not in YAML registry"]
    with pytest.raises(RefusedError, match="no longer in the YAML registry"):
        service("load", "i")
    with pytest.raises(SlotNotFoundError, match="isn't in the registry"):
        Registry.from_yaml(path).unwrap("i", client.get_index_kms(None, "i"))
