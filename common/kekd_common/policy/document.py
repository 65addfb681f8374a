"""The daemon's configuration file, as YAML that says what it seems to say."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml


class DocumentError(Exception):
    """The file can't be read; the text says which and why."""


def contents(path: Path) -> dict[str, Any]:
    """Raises `DocumentError`."""
    # Imported here, as a daemon without a file starts without YAML.
    import yaml  # noqa: PLC0415

    from kekd_common.yaml_loader import StrictLoader  # noqa: PLC0415

    try:
        found = yaml.load(path.read_text(encoding="utf-8"), StrictLoader)  # noqa: S506  (a SafeLoader)
    except OSError as error:
        raise DocumentError(f"{path}: can't be read: {error.strerror}") from error
    # Bytes that are no text, a date that no calendar has, a number that is none: PyYAML lets
    # through whatever comes of them.
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise DocumentError(f"{path}: can't be read as YAML: {error}") from error
    except yaml.YAMLError as error:
        raise DocumentError(f"{path}: can't be read as YAML: {_short(error)}") from error
    if found is None:  # nothing but comments
        return {}
    if not isinstance(found, dict):
        raise DocumentError(f"{path}: must be a mapping of settings, such as 'memory: true'")
    if found.get("policy", ()) is None:
        raise DocumentError(
            f"{path}: policy: it has no rules: write some, or [] to let nobody do anything"
        )
    return {str(name): value for name, value in found.items()}


def _short(error: "yaml.YAMLError") -> str:
    """In one line; its own text draws the place."""
    if mark := getattr(error, "problem_mark", None):
        return f"line {mark.line + 1}: {error.problem}"  # type: ignore[attr-defined]
    return str(error)
