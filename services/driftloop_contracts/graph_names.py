"""Names in an exported graph. Inputs keep the names of the user's columns; our names give way.

A graph has one name space for inputs, outputs and everything between. A feature may be called
`label`, `value` or `matrix`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from driftloop_contracts.errors import Rejected

OUTPUTS = ("label", "probabilities", "value")
PREDICTION_SET = "prediction_set"
"""The output [n, classes] with the classes that the label is probably one of."""


def output_name(wanted: str, inputs: Collection[str]) -> str:
    """Return the name of the output `label`, `probabilities` or `value` in a graph with these
    inputs."""
    return _free(wanted, inputs)


def probabilities_of(outputs: Mapping[str, Any]) -> Any:
    """Return the output with the classes' probabilities; None if there is none."""
    return next((found for name, found in outputs.items() if _is_probabilities(name)), None)


def check_feature_names(names: Iterable[str]) -> None:
    """Raises Rejected for names that a tensor cannot have."""
    seen: set[str] = set()
    for number, name in enumerate(names):
        if not name:
            raise Rejected(f"column {number} has no name: give it one, or drop it")
        if name in seen:
            raise Rejected(f"two columns are called {name!r}: rename one")
        seen.add(name)


def renamed(nodes: Iterable[Any], constants: Iterable[Any], own: Mapping[str, str]) -> None:
    """Rename nodes and initializers in place. own: the graph's names of inputs and outputs, by the
    nodes' names; all other names are changed if they collide."""
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
