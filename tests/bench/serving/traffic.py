"""Prepared requests: no two bodies of a file are the same, so nobody answers from a memory."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from graph import COLUMNS

DISTINCT = 256
MIXED_ROWS = (1, 1, 1, 2, 3, 8, 1, 32)
Writer = Callable[[np.ndarray], "Wire"]


@dataclass(frozen=True)
class Wire:
    """What goes out for one array of rows."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)

    def raw(self) -> bytes:
        head = [
            f"POST {self.path} HTTP/1.1",
            "host: localhost",
            f"content-length: {len(self.body)}",
        ]
        head += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*head, "", ""]).encode() + self.body


def arrays(rows: Iterable[int], seed: int = 1) -> list[np.ndarray]:
    """An array for each number of `rows`, of values with at most six decimals, as people send
    them."""
    dice = np.random.default_rng(seed)
    return [dice.normal(size=(n, COLUMNS)).round(6).astype(np.float32) for n in rows]


def mixed_rows() -> list[int]:
    """Numbers of rows as a service sees them: mostly one, sometimes a page."""
    return [MIXED_ROWS[n % len(MIXED_ROWS)] for n in range(DISTINCT)]


def write_requests(path: Path, wires: Iterable[Wire]) -> Path:
    """The file that requests.lua and openloop.c read."""
    raws = [wire.raw() for wire in wires]
    path.write_bytes(b"".join(b"%d\n" % len(raw) + raw for raw in raws))
    return path


def _plain(rows: np.ndarray) -> list[list[float]]:
    """Short decimals: what a client has before it ever sees a float32."""
    short: list[list[float]] = rows.astype(np.float64).round(6).tolist()
    return short


def v2_json(rows: np.ndarray) -> Wire:
    flat = [value for row in _plain(rows) for value in row]
    tensor = {"name": "x", "datatype": "FP32", "shape": list(rows.shape), "data": flat}
    return Wire("/v2/models/m/infer", json.dumps({"inputs": [tensor]}).encode())


def v2_binary(rows: np.ndarray) -> Wire:
    """Binary in both directions, as tritonclient does it."""
    raw = rows.astype("<f4").tobytes()
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": list(rows.shape),
        "parameters": {"binary_data_size": len(raw)},
    }
    header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = (("inference-header-content-length", str(len(header))),)
    return Wire("/v2/models/m/infer", header + raw, headers)


def plain_json(path: str) -> Writer:
    """`{"inputs": rows}`, for servers without a protocol of their own."""

    def write(rows: np.ndarray) -> Wire:
        return Wire(path, json.dumps({"inputs": _plain(rows)}).encode())

    return write
