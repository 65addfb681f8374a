"""The .proto files, and what protects callers in other languages."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

import kekd_common.reasons
from kekd_common.reasons import Reason
from kekd_proto.descriptors import POOL

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"


def reasons_with_docstrings() -> dict[str, str]:
    tree = ast.parse(Path(kekd_common.reasons.__file__).read_text())
    (body,) = [node.body for node in tree.body if isinstance(node, ast.ClassDef)]
    docstrings = [ast.literal_eval(node.value) for node in body if isinstance(node, ast.Expr)]
    return dict(zip(Reason, (" ".join(text.split()) for text in docstrings[1:]), strict=True))


def test_enum_has_the_reasons_of_the_daemon_and_the_client() -> None:
    values = POOL.FindEnumTypeByName("kekd.v1.Reason").values
    assert [value.name for value in values] == ["REASON_UNSPECIFIED", *Reason]


def test_enum_describes_each_reason_as_python_does() -> None:
    proto = " ".join((PROTOS / "kekd/v1/reason.proto").read_text().replace("//", "").split())
    for number, (reason, text) in enumerate(reasons_with_docstrings().items(), start=1):
        assert f"; {text} {reason} = {number};" in proto


@pytest.mark.external
@pytest.mark.parametrize(
    ("proto", "old", "new", "error"),
    [
        ("envelope", "string if_etag = 4;", "string another = 6;", 'field "4" with name "if_etag"'),
        ("envelope", "string index_name = 2;", "bytes index_name = 2;", "changed type from"),
        ("envelope", "returns (stream ", "returns (", "to server unary"),
        ("reason", "INTERNAL = 26;", "UNEXPECTED = 26;", 'changed name from "INTERNAL"'),
        ("daemon", "Kekd.V1", "Kekd.V2", 'multiple values "Kekd.V1,Kekd.V2"'),
        ("envelope", "  // Name of the bucket.\n", "", 'Field "bucket" should have a non-empty'),
        ("reason", "  // The stored record is damaged.\n", "", 'Enum value "ENVELOPE_CORRUPT"'),
    ],
)
def test_check_rejects_a_breaking_change_and_a_missing_comment(
    tmp_path: Path, proto: str, old: str, new: str, error: str
) -> None:
    copy = shutil.copytree(PROTOS, tmp_path / "protos")
    file = copy / "kekd" / "v1" / f"{proto}.proto"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    command = ["make", "check-protos", f"PROTOS={copy}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode
    assert error in done.stdout
