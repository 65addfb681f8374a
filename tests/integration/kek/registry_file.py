"""The YAML file of a registry."""

from collections.abc import Iterable
from pathlib import Path

import yaml

from kekd.kek import Slot

FIELDS = ("provider", "key_id", "region")
"""CyborgDB Service 0.18 refuses fields that it doesn't know, such as endpoint_url."""


def write(path: Path, slots: Iterable[Slot]) -> Path:
    entries = {slot.name: {name: getattr(slot, name) for name in FIELDS} for slot in slots}
    path.write_text(yaml.safe_dump({"kms": {"registry": entries}}))
    return path
