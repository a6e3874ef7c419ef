"""A vLLM engine with vLLM's own OpenAI handlers, and none of its other routes. Imports vLLM.

Written for vLLM 0.32 (pinned; tests/integration/llm runs it). The handlers are those of `vllm
serve`, so usage, logprobs, tools and structured outputs are exactly vLLM's.
"""

import asyncio
import gc
from argparse import Namespace
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.entrypoints.launchers.launcher import validate_api_server_args
from vllm.entrypoints.openai.chat_completion.api_router import router as chat
from vllm.entrypoints.openai.completion.api_router import router as completions
from vllm.entrypoints.openai.responses.api_router import router as responses
from vllm.entrypoints.pooling.embed.api_router import router as embeddings
from vllm.entrypoints.serve.engine.protocol import ErrorResponse
from vllm.entrypoints.serve.exception_handling.register import init_exception_handler
from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest, UnloadLoRAAdapterRequest
from vllm.entrypoints.serve.tokenize.api_router import router as tokenize
from vllm.entrypoints.serve.tokenize.protocol import (
    TokenizeChatRequest,
    TokenizeCompletionRequest,
)
from vllm.inputs import TokensPrompt
from vllm.sampling_params import SamplingParams
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine.async_llm import AsyncLLM

from driftloop_contracts.errors import Rejected
from driftloop_contracts.ids import new_prediction_id
from driftloop_contracts.likelihood import LikelihoodCall
from driftloop_vllm.generation import CURRENT
from driftloop_vllm.options import EngineOptions, installed_build

WARM_UP_TOKENS = 4
MAX_SCORED_TOKENS, MAX_LOGITS = 1_024, 1 << 26
"""Limits for scoring a text with its conversation. vLLM holds the logits of all tokens of a chunk
at once, beyond the memory that it planned for: 2²⁶ logits take 256 MB."""


class _WatchedLLM(AsyncLLM):  # type: ignore[misc]
    """Records what it generates in the request's `Generation`."""

    async def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, **more: Any
    ) -> AsyncGenerator[Any, None]:
        generation = CURRENT.get()
        outputs = super().generate(prompt, sampling_params, request_id, **more)
        try:
            async for output in outputs:
                if generation is not None:
                    generation.observe(request_id, output)
                yield output
        finally:
            await outputs.aclose()  # frees the engine at once if the consumer leaves


class Engine:
    """A running engine; create it with `start`. `app`: the ASGI application that answers OpenAI's
    calls, for the model `name` and for every adapter under the name that it was loaded with."""

    def __init__(self, name: str, llm: AsyncLLM, app: FastAPI, tasks: tuple[str, ...]) -> None:
        self.name = name
        self.app = app
        self.tasks = tasks
        self._llm = llm
        self._models: Any = app.state.openai_serving_models

    @classmethod
    async def start(cls, name: str, folder: Path, options: EngineOptions) -> "Engine":
        """Load the weights and answer a first prompt, which takes seconds to minutes. Raises the
        errors of vLLM."""
        args = _arguments(name, folder, options)
        llm: AsyncLLM = await asyncio.to_thread(_started, args)
        try:
            tasks = tuple(await llm.get_supported_tasks())
            app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
            app.state.args = args
            # vLLM's error handler for a dead engine uses this to end its own server.
            app.state.server = Namespace(should_exit=False)
            app.include_router(tokenize)
            if "generate" in tasks:
                for router in (chat, completions, responses):
                    app.include_router(router)
            if "embed" in tasks:
                app.include_router(embeddings)
            init_exception_handler(app)
            await init_app_state(llm, app.state, args, tasks)
            engine = cls(name, llm, app, tasks)
            await engine._warm_up(None)
        except BaseException:
            llm.shutdown()
            raise
        gc.collect()
        gc.freeze()
        return engine

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Load a checked adapter and answer one prompt with it. Raises Rejected with vLLM's
        reason."""
        wanted = LoadLoRAAdapterRequest(lora_name=name, lora_path=str(folder))
        answer = await self._models.load_lora_adapter(wanted)
        if isinstance(answer, ErrorResponse):
            raise Rejected(f"vLLM cannot load the adapter: {answer.error.message}")
        await self._warm_up(self._models.lora_requests[name])

    async def unload_adapter(self, name: str) -> None:
        loaded = self._models.lora_requests.get(name)
        if loaded is None:
            return
        await self._models.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name=name))
        await self._llm.remove_lora(loaded.lora_int_id)

    async def nats_per_token(self, name: str, call: LikelihoodCall) -> float:
        """Return the mean of -ln p over the tokens of the call's text, given the latest tokens of
        its conversation. Raises Rejected if the model does not generate text or does not accept the
        conversation."""
        if "generate" not in self.tasks:
            raise Rejected("the model generates no text")
        config = self._llm.model_config
        room = min(
            MAX_SCORED_TOKENS, MAX_LOGITS // config.get_vocab_size(), config.max_model_len - 1
        )
        tokenizer = self._llm.get_tokenizer()
        text = tokenizer.encode(call.text, add_special_tokens=False)[: room // 2]
        asked = (await self._prompt_ids(call))[-(room - len(text)) :]
        if not text or not asked:
            raise Rejected("the text or its prompt is missing")
        prompt = TokensPrompt(prompt_token_ids=[*asked, *text])
        params = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
        adapter = self._models.lora_requests.get(name)
        told: Any = None
        request_id = f"likelihood-{new_prediction_id()}"
        async for output in self._llm.generate(prompt, params, request_id, lora_request=adapter):
            told = output.prompt_logprobs or told
        found = [at[token].logprob for at, token in zip(told[len(asked) :], text, strict=True)]
        return -float(sum(found)) / len(found)

    async def _prompt_ids(self, call: LikelihoodCall) -> list[int]:
        """Return the token ids of the prompt, as for an answer to these messages."""
        messages = [dict(message) for message in call.messages]
        request: Any
        try:
            if call.chat:
                request = TokenizeChatRequest(model=self.name, messages=messages)
            else:
                request = TokenizeCompletionRequest(
                    model=self.name, prompt=messages[-1].get("content")
                )
            answer = await self.app.state.serving_tokenization.create_tokenize(request, None)
        except Exception as error:  # templates are code of the model and may raise anything
            raise Rejected(f"the model does not accept this conversation: {error}") from None
        if isinstance(answer, ErrorResponse):
            raise Rejected(answer.error.message)
        return list(answer.tokens)

    @property
    def adapters(self) -> frozenset[str]:
        """The names of the loaded adapters."""
        return frozenset(self._models.lora_requests)

    @property
    def in_flight(self) -> int:
        """The number of requests that the engine is processing."""
        return int(self._llm.output_processor.get_num_unfinished_requests())

    @property
    def dead(self) -> bool:
        return bool(self._llm.errored)

    def close(self) -> None:
        self._llm.shutdown()

    async def _warm_up(self, adapter: Any) -> None:
        if "generate" not in self.tasks:
            return
        prompt = TokensPrompt(prompt_token_ids=[1, 2, 3])
        params = SamplingParams(max_tokens=WARM_UP_TOKENS, ignore_eos=True)
        name = f"warm-up-{adapter.lora_name if adapter else self.name}"
        async for _ in self._llm.generate(prompt, params, name, lora_request=adapter):
            pass


def _arguments(name: str, folder: Path, options: EngineOptions) -> Namespace:
    """Return the arguments of `vllm serve`, parsed by its own parser."""
    words = ["--model", str(folder), "--served-model-name", name]
    given = options.arguments()
    if installed_build() == "cpu":
        given.setdefault("enforce_eager", True)
        given.setdefault("gpu_memory_utilization", 0.3)
    for key, value in given.items():
        flag = key.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    if options.tool_call_parser is not None:
        words.append("--enable-auto-tool-choice")
    args = make_arg_parser(FlexibleArgumentParser()).parse_args(words)
    validate_parsed_serve_args(args)
    if options.reasoning_parser is not None:
        args.structured_outputs_config.reasoning_parser = options.reasoning_parser
    validate_api_server_args(args)  # detect an unknown parser before the weights are loaded
    return args  # type: ignore[no-any-return]


def _started(args: Namespace) -> AsyncLLM:
    config = AsyncEngineArgs.from_cli_args(args).create_engine_config()
    return _WatchedLLM.from_vllm_config(config)
