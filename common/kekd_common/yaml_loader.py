"""A YAML loader that refuses duplicate keys and alias bombs."""

from typing import Final

import yaml

MAX_ALIASED_VALUES: Final = 100_000
"""What aliases may stand for, all together. Each may be used often, and may hold others: ten lines
can stand for more than any memory takes.
"""
_MERGE: Final = "tag:yaml.org,2002:merge"


class StrictYamlError(yaml.constructor.ConstructorError):
    """Of what YAML allows, or PyYAML lets pass. Its `problem` quotes keys only, and no value."""


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that is written twice, of which PyYAML takes the last, and aliases that hold
    themselves or stand for more than `MAX_ALIASED_VALUES`.
    """

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            sizes: dict[yaml.Node, int] = {}
            if self._check(node, sizes) > len(sizes) + MAX_ALIASED_VALUES:
                raise _problem("its aliases stand for too much: write it out", node)
        return node

    def _check(self, node: yaml.Node, sizes: dict[yaml.Node, int]) -> int:
        """How many values the node stands for; `sizes` has those of the nodes that were seen."""
        if node not in sizes:
            sizes[node] = 0  # until it is known, which a node that holds itself doesn't wait for
            sizes[node] = 1 + sum(self._check(child, sizes) for child in self._children(node))
        elif not sizes[node]:
            raise _problem("an alias holds itself", node)
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
                raise _problem(f"'{key.value}' is written twice", node)
            seen.add(value)


def _problem(text: str, node: yaml.Node) -> StrictYamlError:
    return StrictYamlError(None, None, text, node.start_mark)
