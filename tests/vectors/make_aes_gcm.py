"""Writes aes_gcm.json: wrapped KEKs of provider `aws`, from sources other than kekd.

The sources are published test vectors of AES-256-GCM, and CyborgDB Service. Each vector has the
expected result of unwrapping it.

python -m tests.vectors.make_aes_gcm gcmDecrypt256.rsp gcmEncryptExtIV256.rsp aes_gcm_test.json

The first two files are NIST's (CAVP's gcmtestvectors.zip, also in PyPI's cryptography-vectors).
All their vectors of a KEK's size without additional data are taken, and whether they decrypt.
Wycheproof has no vectors of that size. Its valid vectors of other sizes are taken, which aren't
KEKs; its vectors with modified tags would only test the size.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, Final

from cyborgdb_service.kms.base import BaseSecretsProvider  # type: ignore[import-untyped]

PATH: Final = Path(__file__).with_name("aes_gcm.json")

SOURCES: Final = {
    "CAVP": (
        "NIST Cryptographic Algorithm Validation Program, CAVS 14.0, gcmDecrypt256.rsp and"
        " gcmEncryptExtIV256.rsp; public domain"
    ),
    "Wycheproof": (
        "https://github.com/C2SP/wycheproof at dac1dd4729fd1f8dd9e1e9f3dce51d783da6c166,"
        " testvectors_v1/aes_gcm_test.json; Apache License 2.0"
    ),
    "CyborgDB Service": "cyborgdb-service 0.18.0, kms/base.py",
}
_SIZES: Final = "[Keylen = 256] [IVlen = 96] [PTlen = 256] [AADlen = 0] [Taglen = 128]"


def from_cavp(path: Path) -> list[dict[str, Any]]:
    group = " ".join(path.read_text().split()).partition(_SIZES)[2].partition("[")[0]
    vectors = []
    for test in group.split("Count = ")[1:]:
        value = dict(re.findall(r"(\w+) = ([0-9a-f]+)", test))
        vectors.append(
            {
                "name": f"CAVP {path.stem} {test.split()[0]}",
                "key": value["Key"],
                "wrapped": value["IV"] + value["CT"] + value["Tag"],
                "plaintext": value.get("PT"),
                "error": None if "PT" in value else "TamperedError",
            }
        )
    return vectors


def from_wycheproof(path: Path) -> list[dict[str, Any]]:
    return [
        {
            "name": f"Wycheproof {test['tcId']}",
            "key": test["key"],
            "wrapped": test["iv"] + test["ct"] + test["tag"],
            "plaintext": test["msg"],
            "error": "TamperedError",
        }
        for group in json.loads(path.read_text())["testGroups"]
        if (group["keySize"], group["ivSize"], group["tagSize"]) == (256, 96, 128)
        for test in group["tests"]
        if test["result"] == "valid" and not test["aad"]
    ]


class _Service(BaseSecretsProvider):  # type: ignore[misc]
    """Wraps like the provider for AWS, which differs only in where it reads the secret."""

    def get_wrap_key(self) -> bytes:
        return bytes(range(32))

    def create_wrap_key(self) -> bytes:
        raise NotImplementedError


def from_cyborgdb() -> list[dict[str, Any]]:
    service = _Service()
    return [
        {
            "name": f"CyborgDB Service, {name}",
            "key": service.get_wrap_key().hex(),
            "wrapped": service.wrap(kek).hex(),
            "plaintext": kek.hex(),
            "error": None,
        }
        for name, kek in {"zeros": bytes(32), "ones": b"\xff" * 32}.items()
    ]


if __name__ == "__main__":
    *cavp, wycheproof = map(Path, sys.argv[1:])
    vectors = [vector for path in cavp for vector in from_cavp(path)]
    vectors += from_wycheproof(wycheproof) + from_cyborgdb()
    PATH.write_text(json.dumps({"sources": SOURCES, "vectors": vectors}, indent=1) + "\n")
