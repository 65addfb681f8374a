import re

from kekd.kek import errors
from kekd.kek.errors import KekError


def test_docstring_lists_every_class() -> None:
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"    ((?:│   |    )*)(├── |└── )?(\w+Error)\b", line):
            depth = len(found[1]) // 4 + bool(found[2])
            above[depth:] = [found[3]]
            drawn[found[3]] = above[depth - 1] if depth else "Exception"
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert drawn == {
        kind.__name__: kind.__base__.__name__
        for kind in kinds
        if issubclass(kind, KekError) and kind.__base__
    }


def test_message_names_index_slot_and_key() -> None:
    error = KekError("No.", index_name="i", slot="prod", key_id="alias/prod", code="Denied")
    assert str(error) == "No. (index 'i', slot 'prod', key 'alias/prod', AWS 'Denied')"


def test_message_omits_unknown_details() -> None:
    assert str(KekError("No.")) == "No."
    assert str(KekError("No.", slot="prod")) == "No. (slot 'prod')"


def test_index_set_later_is_in_the_message() -> None:
    error = KekError("No.", slot="prod")
    error.index_name = "i"
    assert str(error) == "No. (index 'i', slot 'prod')"
