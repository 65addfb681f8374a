"""Loads YAML, and rejects duplicate keys and alias bombs."""

from typing import Any, Final

import yaml

MAX_ALIASED_VALUES: Final = 100_000
"""The number of values that all aliases together may expand to. Aliases can be nested: ten lines
can expand to more than fits into memory.
"""
_UNREADABLE: Final = "a value that its type doesn't allow; correct or quote it"
_MERGE: Final = "tag:yaml.org,2002:merge"


class YamlError(Exception):
    """The text isn't valid YAML, or kekd doesn't allow it. `problem` quotes keys and no values."""

    def __init__(self, problem: str, line: int | None) -> None:
        super().__init__(f"line {line}: {problem}" if line else problem)
        self.problem = problem
        self.line = line


def load(text: str | bytes) -> Any:
    """Raises `YamlError`."""
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506  (a SafeLoader)
    except _ForbiddenError as caught:
        error = YamlError(str(caught.problem), _line(caught))
    except yaml.YAMLError as caught:
        error = YamlError(_describe(caught), _line(caught))
    except UnicodeDecodeError:
        error = YamlError("not text in UTF-8; write a YAML file", None)
    except RecursionError:
        error = YamlError("too many levels of lists and mappings; nest fewer", None)
    # Raised here, without a context, because PyYAML's own error quotes a line that may be a secret.
    raise error


def dump(value: object) -> str:
    text: str = yaml.safe_dump(value, allow_unicode=True)
    return text


_PROBLEMS: Final = {
    "mapping values are not allowed here": "a second ': ' or a wrong indentation; quote the value,"
    " or indent the line like its neighbours",
    "could not find expected ':'": "a key without ':'; add it",
    "expected <block end>": "a wrong indentation, or text after a value; correct it",
    "expected ',' or": "a list or mapping isn't closed; add the bracket or comma",
    "expected the node content": "a value is missing, or a list or mapping isn't closed; write it",
    "found unexpected end of stream": "a quoted text isn't closed; add the quote",
    "found undefined alias": "an alias without its anchor; write the value",
    "could not determine a constructor": "an unknown tag; remove it, or quote the value",
    "found unhashable key": "a list or mapping as a key; write a text",
    "found character '\\t'": "a tab in the indentation; use spaces",
    "expected a single document": "more than one document; remove '---' and what follows",
    _UNREADABLE: _UNREADABLE,
}
"""By the start of PyYAML's problem, which can quote a value that may be a secret."""


def _describe(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        return "a character that YAML doesn't allow; remove it"
    problem = f"{getattr(error, 'problem', '')} {getattr(error, 'context', '')}"
    matches = (text for start, text in _PROBLEMS.items() if start in problem)
    return next(matches, "not valid YAML; correct it")


class _ForbiddenError(yaml.constructor.ConstructorError):
    pass


class _StrictLoader(yaml.SafeLoader):
    """Rejects duplicate keys, of which PyYAML takes the last, and aliases that contain themselves
    or expand to more than `MAX_ALIASED_VALUES`.
    """

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Adds the line to what PyYAML's constructors raise, such as for a date that isn't in the
        calendar.
        """
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, _UNREADABLE, node.start_mark
            ) from error

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            sizes: dict[yaml.Node, int] = {}
            if self._check(node, sizes) > len(sizes) + MAX_ALIASED_VALUES:
                raise _forbidden("its aliases expand to too many values; write them out", node)
        return node

    def _check(self, node: yaml.Node, sizes: dict[yaml.Node, int]) -> int:
        """Returns the number of values that the node expands to. `sizes` caches it by node."""
        if node not in sizes:
            sizes[node] = 0  # marks a node whose children are being counted
            sizes[node] = 1 + sum(self._check(child, sizes) for child in self._children(node))
        elif not sizes[node]:
            raise _forbidden("an alias contains itself; write its value out", node)
        return sizes[node]

    def _children(self, node: yaml.Node) -> list[yaml.Node]:
        match node:
            case yaml.SequenceNode():
                return list(node.value)
            case yaml.MappingNode():
                self._check_keys(node)
                return [part for pair in node.value for part in pair]
        return []

    def _check_keys(self, node: yaml.MappingNode) -> None:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            value = key.value if key.tag == _MERGE else self.construct_object(key)
            if value in seen:
                raise _forbidden(f"duplicate key '{key.value}'; remove one", node)
            seen.add(value)


def _forbidden(problem: str, node: yaml.Node) -> _ForbiddenError:
    return _ForbiddenError(None, None, problem, node.start_mark)


def _line(error: yaml.YAMLError) -> int | None:
    mark = getattr(error, "problem_mark", None)
    return mark.line + 1 if mark else None
