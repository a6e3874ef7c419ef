"""Stands in for vLLM: an ASGI application that answers as its handlers do, told when to go on."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from types import SimpleNamespace
from typing import Any

import orjson

from driftloop_contracts.likelihood import LikelihoodCall
from driftloop_vllm.generation import CURRENT

Message = MutableMapping[str, Any]


class FakeEngine:
    """Answers with `words`, one token each. A stream waits for `go_on` before its second word, a
    whole answer before its first; `left`: how many clients of those did not wait. A text's nats per
    token are its number of words."""

    def __init__(self, *words: str, status: int = 200) -> None:
        self.words = words
        self.status = status
        self.dead = False
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.asked: list[dict[str, Any]] = []
        self.left = 0
        self.told: list[tuple[str, LikelihoodCall]] = []

    async def app(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        body = orjson.loads((await receive())["body"])
        self.asked.append(body)
        headers = dict(scope["headers"])
        request_id = f"chatcmpl-{headers[b'x-request-id'].decode()}"
        head = {"id": request_id, "object": "chat.completion", "model": body["model"]}
        if self.status != 200:
            await self._send_whole(send, {"error": {"message": "no", "code": self.status}})
        elif not body.get("stream"):
            leaving = asyncio.ensure_future(_left(receive))
            going = asyncio.ensure_future(self.go_on.wait())
            await asyncio.wait([leaving, going], return_when=asyncio.FIRST_COMPLETED)
            gone = leaving.done()
            for task in (leaving, going):
                task.cancel()
            if gone:
                self.left += 1
                return
            self._observe(request_id, self.words, finished=True)
            message = {"content": "".join(self.words)}
            await self._send_whole(send, {**head, "choices": [{"index": 0, "message": message}]})
        else:
            leaving = asyncio.ensure_future(_left(receive))
            streaming = asyncio.ensure_future(self._stream(send, head))
            await asyncio.wait([leaving, streaming], return_when=asyncio.FIRST_COMPLETED)
            for task in (leaving, streaming):
                task.cancel()

    async def nats_per_token(self, name: str, call: LikelihoodCall) -> float:
        self.told.append((name, call))
        return float(len(call.text.split()))

    async def _stream(self, send: Callable[[Message], Awaitable[None]], head: Any) -> None:
        event_stream = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": event_stream})
        for number, word in enumerate(self.words):
            if number:
                await self.go_on.wait()
            self._observe(head["id"], [word], finished=number == len(self.words) - 1)
            document = {**head, "choices": [{"index": 0, "delta": {"content": word}}]}
            await _body(send, b"data: " + orjson.dumps(document) + b"\n\n", more=True)
        await _body(send, b"data: [DONE]\n\n", more=True)
        await _body(send, b"", more=False)

    async def _send_whole(self, send: Callable[[Message], Awaitable[None]], document: Any) -> None:
        content = orjson.dumps(document)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await _body(send, content, more=False)

    @staticmethod
    def _observe(request_id: str, words: Any, *, finished: bool) -> None:
        generation = CURRENT.get()
        assert generation is not None
        times = SimpleNamespace(first_token_ts=1.0, last_token_ts=2.0, first_token_latency=0.5)
        part = SimpleNamespace(
            index=0,
            text="".join(words),
            token_ids=list(words),
            finish_reason="stop" if finished else None,
        )
        output = SimpleNamespace(prompt_token_ids=[1, 2], outputs=[part], metrics=times)
        generation.observe(request_id, output)


async def _left(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(send: Callable[[Message], Awaitable[None]], content: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": more})
