"""The files of a graph: the `.onnx` file, and the files that it references for its weights (ONNX's
external data)."""

import mmap
from pathlib import Path, PurePosixPath

from driftloop_contracts.errors import NotFound, Rejected
from driftloop_contracts.onnx_file import external_locations, width
from driftloop_contracts.signature import check_width

RESERVED = frozenset({"model.json", "model.onnx", "reference.parquet", "lineage.json"})
"""File names in a version's folder that external data must not use."""


def external_files(graph: Path) -> dict[str, Path]:
    """Return the files that a graph references, by their paths relative to its folder. Raises
    Rejected for a file that is outside the folder or a link, which would let a model read files
    that are not part of it."""
    return {str(place): _checked(graph, place) for place in map(_place, _named(graph))}


def check_graph_width(graph: Path) -> None:
    """Raises Rejected for more inputs and outputs than can be captured, read from the file before
    anything is done with it. What cannot be read is left for the library to refuse."""
    if not graph.stat().st_size:
        return
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            found = width(memoryview(content))
        except ValueError:
            return
    check_width(found)


def _named(graph: Path) -> list[str]:
    if not graph.stat().st_size:
        return []
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"location") < 0:  # the key of each entry of external data
            return []
    try:
        return external_locations(graph.read_bytes())
    except (ValueError, KeyError):
        raise Rejected(f"{graph.name} is not a loadable ONNX model") from None


def _place(location: str) -> PurePosixPath:
    place = PurePosixPath(location)
    if not location or "\0" in location or place.is_absolute() or ".." in place.parts:
        raise Rejected(
            f"the graph keeps weights in {location!r}, outside its own folder; save them beside "
            "it: onnx.save(model, path, save_as_external_data=True, location='model.onnx.data')"
        )
    if str(place) in RESERVED:
        raise Rejected(
            f"the graph keeps weights in {location!r}; that name is used for another file"
        )
    return place


def _checked(graph: Path, place: PurePosixPath) -> Path:
    path = graph.parent
    for part in place.parts:
        path /= part
        if path.is_symlink():
            raise Rejected(
                f"{graph.name} keeps weights in {str(place)!r}, and {part!r} is a symbolic link; "
                "replace it by a copy of the file (cp -L)"
            )
    if not path.is_file():
        raise NotFound(
            f"{graph.name} keeps weights in {str(place)!r}, and {graph.parent.name or '.'!r} has "
            "no such file; it belongs to the model"
        )
    if path.stat().st_nlink > 1:
        raise Rejected(
            f"{graph.name} keeps weights in {str(place)!r}, which is a hard link: it also has "
            "another name; replace it by a copy"
        )
    return path
