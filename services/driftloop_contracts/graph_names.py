"""Names in an exported graph: inputs keep those of the user's columns, ours make room for them.

A graph has one name space for inputs, outputs and what is between them. A feature may be called
`label`, `value` or `matrix`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from driftloop_contracts.errors import Rejected

OUTPUTS = ("label", "probabilities", "value")


def output_name(wanted: str, inputs: Collection[str]) -> str:
    """What a graph with these inputs calls its output `label`, `probabilities` or `value`."""
    return _free(wanted, inputs)


def probabilities_of(outputs: Mapping[str, Any]) -> Any:
    """The output with the classes' probabilities, if there is one."""
    return next((found for name, found in outputs.items() if _is_probabilities(name)), None)


def check_feature_names(names: Iterable[str]) -> None:
    """Raises Rejected for a name that no tensor can have."""
    seen: set[str] = set()
    for number, name in enumerate(names):
        if not name:
            raise Rejected(f"column {number} has no name: give it one, or drop it")
        if name in seen:
            raise Rejected(f"two columns are called {name!r}: rename one")
        seen.add(name)


def renamed(nodes: Iterable[Any], constants: Iterable[Any], own: Mapping[str, str]) -> None:
    """Give nodes and initializers their names in the graph, in place. own: those of inputs and
    outputs, by what the nodes call them; all others make room for them."""
    taken = set(own.values())
    known = dict(own)

    def name_of(name: str) -> str:
        if name and name not in known:
            known[name] = _free(name, taken)
            taken.add(known[name])
        return known.get(name, name)

    for node in nodes:
        _replace(node.input, name_of)
        _replace(node.output, name_of)
    for constant in constants:
        constant.name = name_of(constant.name)


def _replace(names: Any, name_of: Callable[[str], str]) -> None:
    names[:] = [name_of(name) for name in names]


def _free(name: str, taken: Collection[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _is_probabilities(name: str) -> bool:
    return name.rstrip("_") == "probabilities"
