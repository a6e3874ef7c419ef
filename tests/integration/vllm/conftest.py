"""A real vLLM engine in its replica, asked through the front of the serving port: all of the way
but Ray."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import openai
import pytest
import pytest_asyncio
import uvicorn
from engine_world import World
from fastapi import FastAPI
from tiny_llama import tiny_llama

from driftloop_serving.metrics.meter import ReplicaMeter
from driftloop_serving.openai.openai_front import Front, add_openai
from driftloop_settings import Settings
from driftloop_vllm.options import parse_options, process_environment


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """With the module's `OPTIONS`, where it has some."""
    options = getattr(request.module, "OPTIONS", {})
    # An engine's process starts with it; here it is the test's own.
    given = process_environment(parse_options(options))
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    state_dir = tmp_path_factory.mktemp("state")
    base = tiny_llama(state_dir / "base")
    made = World(Settings(state_dir=state_dir, llm={"nice": 0}), base, options)
    await made.deploy()
    yield made
    await made.replica.__del__()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(world: World) -> AsyncIterator[openai.AsyncOpenAI]:
    app = FastAPI()
    add_openai(
        app,
        Front(lambda: world.table, ReplicaMeter(), body_limit_bytes=1 << 20, timeout_s=120.0),
    )
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
    serving = asyncio.create_task(server._serve([listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="x", max_retries=0, timeout=120) as made:
        yield made
    server.should_exit = True
    await serving
