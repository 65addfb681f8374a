"""Loads the daemon's configuration file."""

from pathlib import Path
from typing import Any


class DocumentError(Exception):
    """The file can't be read. The message names the file and the cause."""


def load_yaml(path: Path) -> dict[str, Any]:
    """Raises `DocumentError`."""
    # Imported here, so that a daemon without a file starts without YAML.
    from kekd_common.yaml_loader import YamlError, load  # noqa: PLC0415

    try:
        loaded = load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DocumentError(
            f"{path}: cannot be read: {error.strerror}; check its path and mode"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DocumentError(
            f"{path}: cannot be read as YAML: line {line}: not text in UTF-8; give a YAML file"
        ) from error
    except YamlError as error:
        raise DocumentError(f"{path}: cannot be read as YAML: {error}") from error
    if loaded is None:  # nothing but comments
        return {}
    if not isinstance(loaded, dict):
        raise DocumentError(f"{path}: not a mapping; write settings such as 'memory: true'")
    if loaded.get("policy", ()) is None:
        raise DocumentError(f"{path}: policy: no rules; add rules, or write [] to deny every call")
    return {str(name): value for name, value in loaded.items()}
