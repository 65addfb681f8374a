"""kekctl's commands for KEKs, and the examples of them in the documents."""

import base64
import dataclasses
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import click
import pytest
import yaml
from cyborgdb_service.kms.config import load_kms_registry  # type: ignore[import-untyped]

import kekd
from kekd._cli.keks import _Age
from kekd._cli.options.parameters import Duration
from kekd.kek import Registry
from kekd.kek.aws.kms import AwsKms
from kekd.kek.errors import AccessDeniedError, ProviderUnavailableError
from tests.fixtures.daemon import BIN, Daemon, clean_environment
from tests.fixtures.kekctl import Kekctl
from tests.fixtures.kekctl import kekctl as run_kekctl
from tests.fixtures.kms import Aws
from tests.fixtures.s3 import CREDENTIALS, free_port
from tests.patience import PATIENCE, eventually

ROOT = Path(__file__).parents[2]
KEYS = (ROOT / "docs" / "keys.md").read_text()
README = (ROOT / "README.md").read_text()

EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)


def section(document: str, heading: str) -> str:
    (text,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", document, re.MULTILINE | re.DOTALL)
    return str(text)


def as_script(document: str) -> str:
    """Returns the commands and programs of a document as one shell script."""
    found = re.findall(r"^```(sh|python)\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    return "".join(
        block if language == "sh" else f"python - <<'END_OF_PROGRAM'\n{block}END_OF_PROGRAM\n"
        for language, block in found
    )


def key_of_another_account(endpoint: str, role_arn: str, region: str) -> str:
    where: Any = {"endpoint_url": endpoint, "region_name": region}
    role = boto3.client("sts", **where).assume_role(RoleArn=role_arn, RoleSessionName="owner")
    credentials = role["Credentials"]
    kms = boto3.client(
        "kms",
        **where,
        aws_access_key_id=credentials["AccessKeyId"],
        aws_secret_access_key=credentials["SecretAccessKey"],
        aws_session_token=credentials["SessionToken"],
    )
    arn: str = kms.create_key()["KeyMetadata"]["Arn"]
    return arn


@pytest.fixture
def slots(aws: Aws) -> dict[str, Any]:
    """The slots of docs/keys.md, with existing keys."""
    slots: dict[str, Any] = {}
    for block in blocks(KEYS, "yaml"):
        slots |= yaml.safe_load(block)["kms"]["registry"]
    tenant = slots["tenant-a"]
    slots["prod"]["key_id"] = aws.new_alias(aws.new_key())
    slots["next"]["key_id"] = aws.new_alias(aws.new_key())
    tenant["key_id"] = key_of_another_account(aws.endpoint, tenant["role_arn"], tenant["region"])
    slots["vault"]["key_id"] = f"wrap-key-{os.urandom(4).hex()}"
    for slot in slots.values():
        slot["endpoint_url"] = aws.endpoint
    return slots


@pytest.fixture
def registry_file(slots: dict[str, Any], tmp_path: Path) -> Path:
    file = tmp_path / "cyborgdb.yaml"
    file.write_text(yaml.safe_dump({"service": {"port": 8000}, "kms": {"registry": slots}}))
    return file


@pytest.fixture
def daemon(memory_daemon: Daemon) -> Daemon:
    return memory_daemon


@pytest.fixture
def environment(daemon: Daemon, registry_file: Path) -> dict[str, str]:
    return (
        clean_environment()
        | CREDENTIALS
        | {
            "KEKD_ADDRESS": daemon.address,
            "KEKD_REGISTRY": str(registry_file),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
    )


@pytest.fixture
def kekctl(environment: dict[str, str]) -> Kekctl:
    """Runs kekctl in this environment, and compares its exit code."""
    return partial(run_kekctl, env=environment)


@pytest.fixture
def registry(registry_file: Path) -> Registry:
    return Registry.from_yaml(registry_file)


def test_envelope_is_provisioned_checked_and_rotated(
    kekctl: Kekctl, client: kekd.Client, registry: Registry
) -> None:
    dry_run = ("provision", "i", "--slot", "prod", "--dry-run")
    assert kekctl(*dry_run).stdout == "would provision i\n"
    assert list(client.list_index_kms()) == []
    etag = kekctl("provision", "i", "--slot", "prod").stdout.strip()
    kekctl(*dry_run, code=4)
    stored = client.get_index_kms(None, "i")
    assert stored.etag == etag
    kek = registry.unwrap("i", stored)
    assert kekctl("unwrap", "i", "--check").stdout.startswith("unwraps with aws-kms key alias/")
    assert kekctl("rotate", "i", "--slot", "next").stdout == "rotated i\n"
    assert registry.unwrap("i", client.get_index_kms(None, "i")) == kek
    assert kekctl("drift").stdout == ""


def test_no_key_is_shown(kekctl: Kekctl, client: kekd.Client, registry: Registry) -> None:
    shown = kekctl("provision", "i", "--slot", "prod").stdout
    shown += kekctl("unwrap", "i", "--check").stdout + kekctl("rotate", "i").stdout
    stored = client.get_index_kms(None, "i")
    for key in (bytes(registry.unwrap("i", stored)), stored.wrapped_kek):
        assert base64.b64encode(key).decode() not in shown
        assert key.hex() not in shown


def test_unwrap_without_check_is_refused(kekctl: Kekctl) -> None:
    assert "--check" in kekctl("unwrap", "i", code=2).stderr


@pytest.fixture
def many(kekctl: Kekctl, client: kekd.Client, registry: Registry) -> list[str]:
    """Ten indexes of slot prod. One of them can't be unwrapped."""
    _, envelope = registry.provision("0", "prod", client=client)
    for number in range(1, 9):
        client.push_index_kms(None, str(number), envelope)
    envelope.wrapped_kek = envelope.wrapped_kek[:-1]
    client.push_index_kms(None, "torn", envelope)
    return [*map(str, range(9)), "torn"]


def test_rotate_all_continues_after_a_failure_and_reports_it(
    kekctl: Kekctl, client: kekd.Client, many: list[str]
) -> None:
    shown = kekctl("rotate", "--all", "--slot", "next", code=1).stdout.splitlines()
    lines, counts, failures = shown[:10], shown[10:13], shown[13:]
    assert sorted(lines) == ["failed torn", *(f"rotated {name}" for name in many[:-1])]
    assert [line.split() for line in counts] == [
        ["rotated", "9"],
        ["unchanged", "0"],
        ["failed", "1"],
    ]
    heading, failure = failures
    assert heading == "failures:"
    assert failure.startswith("torn: ")
    assert "AWS 'InvalidCiphertextException'" in failure
    assert {client.get_index_kms(None, name).kms_name for name in many[:-1]} == {"next"}
    assert client.get_index_kms(None, "torn").kms_name == "prod"


def test_repeated_rotate_all_leaves_rotated_envelopes_unchanged(
    kekctl: Kekctl, many: list[str]
) -> None:
    kekctl("rotate", "--all", "--slot", "next", code=1)
    again = kekctl("rotate", "--all", "--slot", "next", "-o", "json", code=1).stdout
    outcomes = [json.loads(line) for line in again.splitlines()]
    assert {outcome["outcome"] for outcome in outcomes if outcome["index_name"] != "torn"} == {
        "unchanged"
    }
    assert [outcome["error"] for outcome in outcomes if outcome["outcome"] == "failed"]


def test_rotate_all_without_a_failure_reports_none(kekctl: Kekctl) -> None:
    kekctl("provision", "i", "--slot", "prod")
    shown = kekctl("rotate", "--all", "--slot", "next").stdout
    assert shown.startswith("rotated i\n")
    assert "failures" not in shown


def test_terminal_shows_a_progress_bar_and_the_failures(
    environment: dict[str, str], many: list[str]
) -> None:
    ours, its = pty.openpty()
    command = ["kekctl", "rotate", "--all", "--slot", "next"]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=its, check=False, text=True
    )
    os.close(its)
    assert b"rotating" in os.read(ours, 65536)
    os.close(ours)
    *counts, heading, failure = done.stdout.splitlines()
    assert [line.split() for line in counts] == [
        ["rotated", "9"],
        ["unchanged", "0"],
        ["failed", "1"],
    ]
    assert heading == "failures:"
    assert failure.startswith("torn: ")


def test_drift_reports_the_differences(
    kekctl: Kekctl, client: kekd.Client, many: list[str]
) -> None:
    assert kekctl("drift", "--prefix", "1").stdout == ""
    (line,) = kekctl("drift", "--prefix", "1", "--slot", "next").stdout.splitlines()
    assert line.startswith("1: kms_name is 'prod', the slot has 'next'; key_id is ")
    assert (
        "next" in kekctl("drift", "--prefix", "1", "--slot", "next", "--exit-code", code=1).stdout
    )
    assert kekctl("drift", "--prefix", "1", "--exit-code").stdout == ""


def test_unwrap_all_checks_every_envelope_and_shows_no_key(
    kekctl: Kekctl, client: kekd.Client, registry: Registry, many: list[str]
) -> None:
    client.create_index_kms(None, "own", kekd.KMSBlob(provider="none"))
    shown = kekctl("unwrap", "--all", "--check", "--jobs", "4", code=1).stdout
    lines = shown.splitlines()
    assert lines[:11] == [
        *(f"unwraps {name}" for name in many[:-1]),
        "unchecked own",
        "failed torn",
    ]
    assert [line.split() for line in lines[11:14]] == [
        ["unwraps", "9"],
        ["unchecked", "1"],
        ["failed", "1"],
    ]
    assert lines[14] == "failures:"
    assert lines[15].startswith("torn: ")
    stored = client.get_index_kms(None, "0")
    for key in (bytes(registry.unwrap("0", stored)), stored.wrapped_kek):
        assert base64.b64encode(key).decode() not in shown
        assert key.hex() not in shown


def test_unwrap_with_a_prefix_checks_only_its_indexes(kekctl: Kekctl, many: list[str]) -> None:
    shown = kekctl("unwrap", "--prefix", "1", "--check", "-o", "json").stdout
    assert [json.loads(line) for line in shown.splitlines()] == [
        {"index_name": "1", "outcome": "unwraps"}
    ]
    assert "give exactly one of" in kekctl("unwrap", "1", "--all", "--check", code=2).stderr
    assert "give exactly one of" in kekctl("unwrap", "--check", code=2).stderr


def test_key_with_new_material_is_drift_until_it_wraps_again(
    kekctl: Kekctl, aws: Aws, client: kekd.Client, registry: Registry
) -> None:
    kekctl("provision", "i", "--slot", "prod")
    old = client.get_index_kms(None, "i")
    client.push_index_kms(None, "i", dataclasses.replace(old, created_at=old.created_at - 3600))
    assert kekctl("drift").stdout == ""
    aws.kms.rotate_key_on_demand(KeyId=old.key_arn.rpartition("/")[2])
    drift = kekctl("drift", code=1).stdout
    assert drift.startswith("i: was wrapped on 20")
    assert "was rotated on 20" in drift
    assert kekctl("rotate", "--all", "--older-than", "2h").stdout.startswith("unchanged i\n")
    assert kekctl("rotate", "--all", "--older-than", "30m").stdout.startswith("rotated i\n")
    assert kekctl("drift").stdout == ""
    assert kekctl("rotate", "--all", "--force").stdout.startswith("rotated i\n")


def test_key_that_is_disabled_or_pending_deletion_is_reported(
    kekctl: Kekctl, aws: Aws, client: kekd.Client
) -> None:
    for index, slot in (("a", "prod"), ("b", "next")):
        kekctl("provision", index, "--slot", slot)
    key_of = {index: client.get_index_kms(None, index).key_arn.rpartition("/")[2] for index in "ab"}
    aws.kms.disable_key(KeyId=key_of["a"])
    aws.kms.schedule_key_deletion(KeyId=key_of["b"], PendingWindowInDays=7)
    disabled, deleted = map(json.loads, kekctl("drift", "-o", "json", code=1).stdout.splitlines())
    assert disabled["key"][0].endswith("is disabled: it cannot unwrap KEKs; enable it")
    assert "is pending deletion (20" in deleted["key"][0]


def test_missing_permission_to_see_rotations_is_one_line(
    kekctl: Kekctl, client: kekd.Client, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in ("a", "b"):
        registry.provision(index, "prod", client=client)

    def refused(*_: Any) -> None:
        raise AccessDeniedError("no")

    monkeypatch.setattr(AwsKms, "last_rotation", refused)
    done = kekctl("drift")
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("kekctl: cannot check when keys were rotated: AWS refuses")
    assert line.endswith("; allow kms:ListKeyRotations")


@pytest.mark.parametrize("duration", ["90", "d", "-1d", "1w", "", "1 d", "1h30", "\u0661d"])
def test_invalid_age_is_refused(duration: str) -> None:
    with pytest.raises(click.BadParameter, match="; write one such as"):
        _Age().convert(duration, None, None)


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [
        *(("90d", 7_776_000), ("12h", 43_200), ("30m", 1800), ("0s", 0), ("1.5d", 129_600)),
        *(("1h30m", 5400), ("250ms", 0.25), ("45", 45), ("2.5", 2.5)),
    ],
)
def test_duration_is_in_seconds(duration: str, seconds: float) -> None:
    assert Duration().convert(duration, None, None) == seconds


def test_older_than_is_not_for_one_index(kekctl: Kekctl) -> None:
    assert "--all" in kekctl("rotate", "i", "--older-than", "1d", code=2).stderr


@pytest.fixture
def uncheckable(
    registry_file: Path, slots: dict[str, Any], client: kekd.Client, registry: Registry
) -> None:
    """Three indexes: one without its slot, one without its alias, and one with drift only."""
    lost = slots["prod"] | {"key_id": "alias/that-has-gone"}
    registry_file.write_text(yaml.safe_dump({"kms": {"registry": slots | {"lost": lost}}}))
    _, envelope = registry.provision("fine", "prod", client=client)
    for index, name in (("a", "gone"), ("b", "lost"), ("z", "next")):
        envelope.kms_name = name
        client.push_index_kms(None, index, envelope)


@pytest.mark.usefixtures("uncheckable")
def test_drift_continues_after_an_uncheckable_envelope(kekctl: Kekctl) -> None:
    gone, lost, drifted = kekctl("drift", code=1).stdout.splitlines()
    assert gone.startswith("a: cannot be checked: slot not found")
    assert lost.startswith("b: cannot be checked: key not found")
    assert drifted.startswith("z: key_id is ")
    kekctl("drift", "--prefix", "z")
    kekctl("drift", "--prefix", "b", "--exit-code", code=1)


@pytest.mark.usefixtures("uncheckable")
def test_drift_as_json_has_the_uncheckable_envelopes(kekctl: Kekctl) -> None:
    shown = kekctl("drift", "-o", "json", code=1).stdout
    gone, lost, drifted = map(json.loads, shown.splitlines())
    assert (gone.keys(), gone["index_name"]) == ({"index_name", "error"}, "a")
    assert (lost.keys(), lost["index_name"]) == ({"index_name", "error"}, "b")
    assert (drifted.keys(), drifted["index_name"]) == ({"index_name", "drift"}, "z")


def test_drift_continues_after_a_damaged_record(
    kekctl: Kekctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = ("a", kekd.CorruptEnvelopeError("It is damaged."))
    drifted = ("b", kekd.KMSBlob(kms_name="next", provider="aws"))
    monkeypatch.setattr(kekd.Client, "scan_index_kms", lambda *_: iter([damaged, drifted]))
    first, second = kekctl("drift", code=1).output.splitlines()
    assert first == "a: cannot be checked: It is damaged."
    assert second.startswith("b: provider is 'aws'")


def test_drift_waits_once_for_unreachable_aws(
    kekctl: Kekctl, client: kekd.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index, slot in (("a", "prod"), ("b", "prod"), ("c", "next"), ("d", "")):
        provider = "aws-kms" if slot else "none"
        blob = kekd.KMSBlob(kms_name=slot, provider=provider, key_id="k", wrapped_kek=b"w")
        client.create_index_kms(None, index, blob if slot else kekd.KMSBlob(provider="none"))
    asked: list[str] = []

    def unreachable(_: Registry, index: str, envelope: kekd.KMSBlob, *_others: Any) -> list[str]:
        asked.append(index)
        if envelope.provider == "none":
            return []
        raise ProviderUnavailableError("AWS cannot be reached.")

    monkeypatch.setattr(Registry, "drift", unreachable)
    shown = kekctl("drift", code=1).output
    problem = "cannot be checked: AWS cannot be reached."
    assert shown.splitlines() == [f"{index}: {problem}" for index in "abc"]
    assert asked == ["a", "c", "d"]


def test_secret_is_created_once(kekctl: Kekctl, aws: Aws, slots: dict[str, Any]) -> None:
    kekctl("provision", "i", "--slot", "vault", code=9)
    dry_run = ("kms", "create-secret", "vault", "--dry-run")
    assert kekctl(*dry_run).stdout == "would create vault\n"
    arn = kekctl("kms", "create-secret", "vault").stdout.strip()
    assert "it already exists" in kekctl(*dry_run, code=4).stderr
    value = aws.secrets.get_secret_value(SecretId=arn)["SecretBinary"]
    assert (
        "it already exists, and is unchanged"
        in kekctl("kms", "create-secret", "vault", code=4).stderr
    )
    assert aws.secrets.get_secret_value(SecretId=arn)["SecretBinary"] == value
    kekctl("provision", "i", "--slot", "vault")
    kekctl("kms", "create-secret", "prod", code=1)


def test_problems_of_the_registry_are_reported_together(
    kekctl: Kekctl, registry_file: Path
) -> None:
    registry_file.write_text("kms: {registry: {a: {provider: gcp}, b: {key_id: k, colour: red}}}")
    lines = kekctl("drift", code=2).stderr.splitlines()
    assert len(lines) > 3
    assert all(line.startswith(f"kekctl: {registry_file}: slot ") for line in lines)


@pytest.mark.parametrize(
    "arguments",
    [(), ("i", "--all"), ("--all", "--prefix", "a"), ("--all", "--jobs", "0")],
)
def test_rotate_without_exactly_one_target_is_rejected(
    kekctl: Kekctl, arguments: tuple[str, ...]
) -> None:
    kekctl("rotate", *arguments, code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("provision", "i", "--slot", ""),
        ("drift", "--slot", ""),
        ("rotate", "i", "--slot", ""),
        ("rotate", "--all", "--from-slot", ""),
        ("rotate", "--all", "--from-store", ""),
        ("rotate", "--prefix", ""),
        *(("rotate", "--all", "--max-rate", rate) for rate in ("nan", "inf", "1e-320", "0", "-1")),
    ],
    ids=lambda arguments: " ".join(arguments[-2:]),
)
def test_ambiguous_value_is_refused(
    kekctl: Kekctl, many: list[str], client: kekd.Client, arguments: tuple[str, ...]
) -> None:
    before = [found for _, found in client.scan_index_kms()]
    assert f"Invalid value for '{arguments[-2]}'" in kekctl(*arguments, code=2).stderr
    assert [found for _, found in client.scan_index_kms()] == before


@pytest.mark.parametrize("rate", ["0.001", "1e6"])
def test_valid_rate_is_accepted(kekctl: Kekctl, rate: str) -> None:
    kekctl("rotate", "--all", "--max-rate", rate)


def test_from_slot_missing_from_the_registry_is_reported(
    kekctl: Kekctl, client: kekd.Client, many: list[str]
) -> None:
    done = kekctl("rotate", "--all", "--slot", "next", "--from-slot", "typo")
    assert done.stderr == (
        "kekctl: warning: the registry has no slot 'typo': rotating only envelopes that name it\n"
    )
    assert {client.get_index_kms(None, name).kms_name for name in many[:-1]} == {"prod"}
    known = kekctl("rotate", "--prefix", "1", "--slot", "next", "--from-slot", "prod")
    assert known.stderr == ""


def test_keep_version_keeps_the_version(kekctl: Kekctl, client: kekd.Client) -> None:
    kekctl("provision", "i", "--slot", "prod")
    kekctl("rotate", "i")
    kekctl("rotate", "i", "--keep-version")
    assert client.get_index_kms(None, "i").version == 2
    assert "leaves the version unchanged" in KEYS.replace("\n", " ")


def test_help_has_the_name_of_from_store_in_errors(kekctl: Kekctl) -> None:
    assert "from_store" in kekctl("rotate", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("provision", "i", "--slot", "gone"), 2),
        (("rotate", "--all", "--slot", "gone"), 2),
        (("drift", "--slot", "gone"), 2),
        (("unwrap", "i", "--check"), 3),
        (("rotate", "i"), 3),
    ],
)
def test_missing_index_slot_or_file_is_reported(
    kekctl: Kekctl, client: kekd.Client, arguments: tuple[str, ...], code: int
) -> None:
    assert kekctl(*arguments, code=code).stderr.startswith("kekctl: ")
    assert list(client.list_index_kms()) == []


def test_documented_lines_run_one_after_another(
    environment: dict[str, str], registry_file: Path, client: kekd.Client, tmp_path: Path
) -> None:
    keys, _, _ = KEYS.partition("## Trying it without AWS")
    script = as_script(section(README, "Keys")) + as_script(keys)
    script = script.replace("/etc/cyborgdb/cyborgdb.yaml", str(registry_file))
    del environment["KEKD_REGISTRY"]
    done = subprocess.run(
        ["bash", "-euxc", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    slots = {index: client.get_index_kms(None, index).kms_name for index in client.list_index_kms()}
    assert slots == {"my_index": "next", "orders": "tenant-a", "photos": "prod"}


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def moto_port(trial: list[str], tmp_path: Path) -> Iterator[int]:
    """The port of the server that the first block of the section starts."""
    port = free_port()
    server = subprocess.Popen(
        ["bash", "-euc", trial[0].replace("5000", str(port))],
        # Its packages are already installed.
        env=clean_environment() | {"PATH": f"{BIN}:{os.environ['PATH']}", "PIP_NO_INDEX": "1"},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        eventually(lambda: accepts(port) or server.poll() is not None)
        assert server.poll() is None
        yield port
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture
def trial() -> list[str]:
    return blocks(section(KEYS, "Trying it without AWS"), "sh")


def test_documented_program_runs_without_aws(environment: dict[str, str]) -> None:
    (program,) = blocks(section(KEYS, "Trying it without AWS"), "python")
    environment = {name: value for name, value in environment.items() if "AWS_" not in name}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("next\nTrue\n", "")


def test_documented_trial_runs_without_aws(
    daemon: Daemon, trial: list[str], moto_port: int, tmp_path: Path
) -> None:
    environment = {
        name: value for name, value in clean_environment().items() if not name.startswith("AWS_")
    }
    environment |= {"KEKD_ADDRESS": daemon.address, "PATH": f"{BIN}:{os.environ['PATH']}"}
    script = "".join(trial[1:]).replace("5000", str(moto_port))
    done = subprocess.run(
        ["bash", "-euc", script],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    arn, etag, *others = done.stdout.splitlines()
    assert arn.startswith("arn:aws:secretsmanager:us-east-1:")
    assert len(etag) == 32
    assert others == ["unwraps with aws key trial/wrap-key", "rotated trial_index", "deleted"]


def test_cyborgdb_service_reads_the_first_file_and_not_the_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, ours = blocks(KEYS, "yaml")
    file = tmp_path / "cyborgdb.yaml"
    monkeypatch.setenv("CYBORGDB_CONFIG_FILE", str(file))
    file.write_text(both)
    assert list(load_kms_registry()) == list(Registry.from_yaml(file).slots)
    file.write_text(ours)
    slot = Registry.from_yaml(file).slots["tenant-a"]
    assert slot.encryption_context
    assert slot.allowed_key_arns
    assert slot.endpoint_url
    content = yaml.safe_load(ours)
    tenant = content["kms"]["registry"]["tenant-a"]
    for key in ("encryption_context", "allowed_key_arns", "endpoint_url"):
        content["kms"]["registry"]["tenant-a"] = {
            name: value
            for name, value in tenant.items()
            if name == key or name not in {"encryption_context", "allowed_key_arns", "endpoint_url"}
        }
        file.write_text(yaml.safe_dump(content))
        with pytest.raises(ValueError, match=key):
            load_kms_registry()


def test_keys_page_has_every_permission() -> None:
    named = set(re.findall(r"`((?:kms|secretsmanager|sts):\w+)`", section(KEYS, "Permissions")))
    assert named == {
        "kms:Encrypt",
        "kms:Decrypt",
        "kms:DescribeKey",
        "kms:ListKeyRotations",
        "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
        "secretsmanager:GetSecretValue",
        "secretsmanager:CreateSecret",
        "secretsmanager:DescribeSecret",
        "sts:AssumeRole",
    }


def installed_with(extra: str) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in EXTRAS[extra]}


def test_make_run_installs_the_extras_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text()
    needed = {"kekd": "server", "kekctl": "aws", "grpcurl": "run"}
    lines = re.findall(r"^(?:\$ )?(kekd|kekctl|grpcurl) ", README, re.MULTILINE)
    assert set(lines) == set(needed)
    assert "cryptography" in installed_with("aws")
    assert "$(VENV)/run: EXTRAS := aws,server\n" in makefile
    assert "run: $(VENV)/run " in makefile


def test_keys_page_has_every_key_of_a_slot(registry: Registry) -> None:
    documented = set(re.findall(r"^\| (`.+?`) \|", KEYS, re.MULTILINE))
    names = {name.strip("`") for row in documented for name in row.split(", ")}
    (slot, *_) = registry.slots.values()
    assert names == {name for name in type(slot).__slots__ if name != "name"}


def test_ctrl_c_stops_immediately_and_reports_the_progress(
    environment: dict[str, str], many: list[str]
) -> None:
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    run = "from kekd._cli import main; main()"
    command = [sys.executable, "-c", f"{heed}; {run}", "rotate", "--all", "--slot", "next"]
    with subprocess.Popen(
        [*command, "--max-rate", "1"], env=environment, stdout=subprocess.PIPE, text=True
    ) as rotating:
        assert rotating.stdout
        first = rotating.stdout.readline()
        rotating.send_signal(signal.SIGINT)
        rest, _ = rotating.communicate(timeout=PATIENCE)
    assert rotating.returncode == 130
    counts = dict(line.split() for line in rest.splitlines() if re.fullmatch(r"\w+ +\d+", line))
    assert first.startswith("rotated ")
    assert 0 < int(counts["rotated"]) < 9
