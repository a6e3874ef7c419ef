"""Encoded bodies, HEAD, OPTIONS and CORS on the serving port, at the parser's fast path and in the
application."""

import contextlib
import gzip
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_port import BODY_LIMIT, ServingPort, body, serving_port

from driftloop_contracts.errors import Rejected
from driftloop_http.content_encoding import CHUNK_BYTES, Inflater

ORIGIN = "https://app.example"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODED = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "identity": bytes,
}


@pytest.fixture
async def port(tmp_path: Path, scaler: Path) -> AsyncIterator[ServingPort]:
    async with serving_port(tmp_path, cors_origins=[ORIGIN]) as opened:
        opened.deploy(scaler)
        yield opened


async def post(
    port: ServingPort, content: bytes | AsyncIterator[bytes], encoding: str, path: str = ""
) -> httpx.Response:
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    return await port.http.post(path or "/v2/models/m/infer", content=content, headers=headers)


@pytest.mark.parametrize("encoding", ENCODED)
@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/v2/models/%6d/infer"])
async def test_encoded_requests_are_answered_as_plain_ones(
    port: ServingPort, encoding: str, path: str
) -> None:
    answer = await post(port, ENCODED[encoding](orjson.dumps(body([1.0, 2.0]))), encoding, path)
    assert answer.json()["outputs"][0]["data"] == [2.0, 4.0]
    assert answer.headers["x-prediction-id"]


async def test_other_encodings_are_refused_with_what_is_supported(port: ServingPort) -> None:
    for encoding in ("br", "zstd", "gzip, gzip"):
        answer = await post(port, b"{}", encoding)
        assert answer.status_code == 415
        assert "send gzip, deflate or none" in answer.json()["error"]
        assert answer.headers["accept-encoding"] == "gzip, deflate"


async def test_a_bomb_is_refused_before_it_is_read(port: ServingPort) -> None:
    packed, sent = gzip.compress(bytes(64 << 20)), 0

    async def slowly() -> AsyncIterator[bytes]:
        nonlocal sent
        for at in range(0, len(packed), 1 << 10):
            sent += 1
            yield packed[at : at + (1 << 10)]

    small = gzip.compress(bytes(BODY_LIMIT + 1))
    assert len(small) < 1_000
    for content in (small, slowly()):
        answer = await post(port, content, "gzip")
        assert answer.status_code == 413
        assert "over 100000 bytes" in answer.json()["error"]


async def test_what_is_not_what_it_says_is_refused(port: ServingPort) -> None:
    whole = gzip.compress(orjson.dumps(body([1.0])))
    for content, sentence in ((b"plain", "not valid gzip"), (whole[:-4], "ends within")):
        answer = await post(port, content, "gzip")
        assert (answer.status_code, sentence in answer.json()["error"]) == (400, True)
    plain = await port.ask([1.0])
    assert plain.status_code == 200


async def test_a_stream_of_labels_may_be_encoded(port: ServingPort) -> None:
    lines = b"".join(
        orjson.dumps({"prediction_id": f"p{n}", "label": n}) + b"\n" for n in range(9_000)
    )
    assert len(lines) > 2 * BODY_LIMIT
    headers = {"content-type": "application/x-ndjson", "content-encoding": "gzip"}
    answer = await port.http.post("/feedback", content=gzip.compress(lines), headers=headers)
    assert answer.json()["accepted"] == 9_000


@given(
    data=st.binary(max_size=200),
    cuts=st.lists(st.integers(0, 200)),
    kind=st.sampled_from([*ENCODED][:4]),
)
def test_however_a_body_is_cut_it_decodes_to_the_same(
    data: bytes, cuts: list[int], kind: str
) -> None:
    packed = ENCODED[kind](data)
    places = sorted({0, len(packed), *(cut for cut in cuts if cut < len(packed))})
    inflater = Inflater(kind)
    parts = [part for start, end in pairwise(places) for part in inflater.feed(packed[start:end])]
    inflater.end()
    assert b"".join(parts) == data


@given(data=st.binary(max_size=64))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    for kind in ("gzip", "deflate"):
        inflater = Inflater(kind)
        with contextlib.suppress(Rejected):
            for part in inflater.feed(data):
                assert len(part) <= CHUNK_BYTES
            inflater.end()


def get_routes(port: ServingPort) -> Iterator[str]:
    for route in port.app.routes:
        if "GET" in getattr(route, "methods", ()):
            yield route.path.replace("{model}", "m").replace("{version}", "1")


async def test_head_is_get_without_its_body_on_every_route(port: ServingPort) -> None:
    paths = list(get_routes(port))
    assert len(paths) > 12
    for path in paths:
        got, head = await port.http.get(path), await port.http.head(path)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-type"] == got.headers["content-type"]
    missing = await port.http.head("/nowhere")
    assert missing.status_code == 404
    only_post = await port.http.head("/v2/models/m/infer")
    assert (only_post.status_code, only_post.headers["allow"]) == (405, "OPTIONS, POST")


async def test_options_says_what_a_url_allows(port: ServingPort) -> None:
    for path, methods in (
        ("/v2/models/m/infer", "OPTIONS, POST"),
        ("/v2/models/m", "GET, HEAD, OPTIONS"),
        ("/feedback", "OPTIONS, POST"),
    ):
        answer = await port.http.request("OPTIONS", path)
        assert (answer.status_code, answer.headers["allow"], answer.content) == (204, methods, b"")
    assert (await port.http.request("OPTIONS", "/nowhere")).status_code == 404


async def test_pages_of_named_origins_may_call(port: ServingPort) -> None:
    preflight = await port.http.request(
        "OPTIONS",
        "/v2/models/m/infer",
        headers={
            "origin": ORIGIN,
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type, x-prediction-id",
        },
    )
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "x-prediction-id" in preflight.headers["access-control-allow-headers"]
    answer = await port.ask([1.0], origin=ORIGIN)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "x-prediction-id" in answer.headers["access-control-expose-headers"]
    other = await port.ask([1.0], origin="https://other.example")
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers


async def test_cors_is_off_by_default(tmp_path: Path, scaler: Path) -> None:
    async with serving_port(tmp_path / "off") as off:
        off.deploy(scaler)
        answer = await off.ask([1.0], origin=ORIGIN)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


async def test_what_nobody_foresaw_is_found_in_the_log_by_its_id(
    port: ServingPort, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await port.http.post("/v2/repository/models/m/load")  # its store cannot be opened
    assert answer.status_code == 500
    error_id = re.fullmatch(r"internal error (\w{12}): .*", answer.json()["error"])
    assert error_id is not None
    said = capsys.readouterr()
    assert error_id[1] in said.out + said.err  # commands of other tests log to standard error
