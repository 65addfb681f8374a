"""Reads the envelope that `create` and `push` store."""

from typing import Any, TextIO

from kekd._cli.backup.json_lines import from_content
from kekd._cli.errors import EnvelopeJSONError
from kekd._cli.output.json_format import EnvelopeJSON, parse_json
from kekd.kek.errors import WrongContextError
from kekd_common.install import install_command


def read_envelope(file: TextIO, index: str | None) -> EnvelopeJSON:
    """Reads the output of `kekctl get`, or a line of a backup. Raises `EnvelopeJSONError`.

    `index` replaces the name in the file.
    """
    text = file.read()
    # JSON has its own parser: its errors name lines, and YAML's needs an optional library.
    is_json = text.lstrip()[:1] in {"", "{", "["}
    envelope = from_content(parse_json(text) if is_json else _parse_yaml(text))
    if index is None or index == envelope.index_name:
        return envelope
    _require_unbound(envelope, index)
    return envelope._replace(index_name=index)


def _parse_yaml(text: str) -> Any:
    try:
        from kekd_common import yaml_loader  # noqa: PLC0415  (an optional dependency)
    except ModuleNotFoundError:
        raise EnvelopeJSONError(
            f"cannot read YAML: PyYAML is not installed; use JSON, or run {install_command('aws')}"
        ) from None
    try:
        return yaml_loader.load(text)
    except yaml_loader.YamlError as error:
        raise EnvelopeJSONError(f"neither JSON nor YAML: {error}") from None


def _require_unbound(envelope: EnvelopeJSON, index: str) -> None:
    """Raises `EnvelopeJSONError` if the KEK is bound to another index: it could never be
    unwrapped.
    """
    # Imported here because most envelopes keep their name.
    from kekd.kek.encryption_context import EncryptionContext  # noqa: PLC0415

    try:
        bound = EncryptionContext.parse(envelope.blob.binding).index_name
    except WrongContextError:  # not bound, or not by kekd
        return
    if bound != index:
        raise EnvelopeJSONError(
            f"cannot store the envelope as '{index}': its KEK is bound to index '{bound}'; store it"
            " under that name, or use 'kekctl provision'"
        )
