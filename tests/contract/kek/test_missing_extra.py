"""Imports without the extra `aws`, or with a part of it."""

import subprocess
import sys
from pathlib import Path

import pytest

HIDE = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""
EXTRA = {"boto3", "botocore", "cryptography", "pydantic", "tenacity", "yaml"}
FILE = "kms: {registry: {prod: {provider: aws-kms, key_id: alias/prod}}}"


def run(code: str, *hidden: str) -> str:
    """Returns the output of the code. It can't import the hidden modules."""
    command = [sys.executable, "-c", HIDE.format(names=set(hidden)) + code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_and_catch(statement: str, *hidden: str) -> str:
    return run(
        "from kekd.kek import Registry, Slot\n"
        "from kekd.kek.errors import MissingDependencyError\n"
        "from kekd import KMSBlob\n"
        f"try:\n    {statement}\n"
        "except MissingDependencyError as error:\n    print(error)\n",
        *hidden,
    )


def test_import_without_the_extra_succeeds() -> None:
    # An installed extra isn't imported either, because importing boto3 takes long.
    assert run("import kekd.kek, kekd.kek.errors; print('ok')", *EXTRA) == "ok\n"
    loaded = run(f"import kekd.kek; print({EXTRA} & sys.modules.keys())")
    assert loaded == "set()\n"


def test_provider_none_without_the_extra_succeeds() -> None:
    statement = (
        "print(Registry({}).unwrap('i', KMSBlob(provider='none'), kek=bytes(32)) == bytes(32))"
    )
    assert run_and_catch(statement, *EXTRA) == "True\n"


@pytest.mark.parametrize("module", ["pydantic", "yaml"])
def test_registry_file_without_the_extra_names_the_missing_module(
    tmp_path: Path, module: str
) -> None:
    path = tmp_path / "cyborgdb.yaml"
    path.write_text(FILE)
    printed = run_and_catch(f"Registry.from_yaml({str(path)!r})", module)
    assert module in printed
    assert "'.[aws]'" in printed


def test_registry_file_without_boto3_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cyborgdb.yaml"
    path.write_text(FILE)
    printed = run_and_catch(
        f"print(*Registry.from_yaml({str(path)!r}).slots)", "boto3", "cryptography"
    )
    assert printed == "prod\n"


@pytest.mark.parametrize(
    ("provider", "module"),
    [
        ("aws-kms", "boto3"),
        ("aws-kms", "botocore"),
        ("aws", "boto3"),
        ("aws", "cryptography"),
    ],
)
def test_provider_without_the_extra_names_the_missing_module(provider: str, module: str) -> None:
    slot = f"Registry({{'s': Slot('s', {provider!r}, 'k')}})"
    blob = f"KMSBlob('s', {provider!r}, 'k', '', bytes(60))"
    printed = run_and_catch(f"{slot}.unwrap('i', {blob})", module)
    assert module in printed
    assert "'.[aws]'" in printed
