"""Micro-batching without a timer: requests that arrive in one turn of the event loop share one run.

Each turn takes the calls that have arrived, chooses a version for each, decodes them, and puts them
into queues, one for each (graph, arm, shape class). Queues with short runs are executed at once on
the event loop. Queues with long runs are executed in a thread, and calls that arrive meanwhile
share the next run. Batches therefore grow only under load. (The exception is a model with
`max_queue_delay_s`, whose queue waits up to that long for more calls.)

Delivery: run → one write to the spool for all runs of this turn → answers, sent at once or as soon
as the configured `durability` allows. A call whose deadline passed before its run is recorded and
answered like a failed run; a call whose client has left is neither recorded nor answered.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import structlog

from driftloop_contracts.errors import DriftloopError, RetryLater
from driftloop_contracts.ids import new_prediction_id
from driftloop_contracts.internal_error import InternalError
from driftloop_serving.batching.batch_queue import INLINE_S, BatchQueue, Queues
from driftloop_serving.batching.call_errors import BUSY, LATE, ClientGone, ModelFailed
from driftloop_serving.batching.model_table import Chosen, ModelTable
from driftloop_serving.batching.repeats import Repeats
from driftloop_serving.batching.run import Outputs, Run, record_of
from driftloop_serving.capture.durability import Durability, rows_of
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.inference.call_traces import CallTracing
from driftloop_serving.inference.infer_call import InferAnswer, InferCall, Meter

log = structlog.get_logger()

WORKERS = 2
"""The number of threads for long runs."""
QUEUES_KEPT = 512
TIMEOUT = "Timeout"
"""The `error` recorded for a request whose deadline passed before its run."""

Forward = Callable[[InferCall], Awaitable[InferAnswer | DriftloopError]]
"""Returns another replica's answer, which is already counted; raises if none can be reached."""


class Batcher:
    """Runs calls and answers them. `submit` must be called on the event loop.

    in_flight_limit: the number of calls in progress above which new ones are answered with
    RetryLater. table: replaced as a whole when the deployments change. forward: asks another
    replica about a model that this process does not hold. durability: None sends answers as soon as
    their records are in the spool. tracing: if calls have a `trace`. runs_per_queue: how many runs
    of one queue may execute at once. queues_kept: as of `Queues`.
    """

    def __init__(
        self,
        spool: SpoolWriter,
        meter: Meter,
        *,
        in_flight_limit: int,
        forward: Forward | None = None,
        durability: Durability | None = None,
        tracing: CallTracing | None = None,
        runs_per_queue: int = WORKERS,
        queues_kept: int = QUEUES_KEPT,
    ) -> None:
        self._table = ModelTable()
        self._spool = spool
        self._durability = durability
        self._meter = meter
        self._limit = in_flight_limit
        self._forward = forward
        self.tracing = tracing
        self._loop = asyncio.get_running_loop()
        self._runs_per_queue = runs_per_queue
        self._threads = ThreadPoolExecutor(WORKERS, "run")
        self._arrived: list[InferCall] = []
        self._last_turn = 0
        self._queues = Queues(queues_kept)
        self._repeats = Repeats()
        self._forwarding: set[asyncio.Task[None]] = set()
        self.in_flight = 0
        self.busy_s = 0.0

    @property
    def table(self) -> ModelTable:
        return self._table

    @table.setter
    def table(self, table: ModelTable) -> None:
        self._table = table
        self._queues.forget_idle()

    def submit(self, call: InferCall, *, alone: bool = False) -> None:
        """Answer a call. `alone`: no other call can arrive in this turn, so run it at once."""
        if self.in_flight >= self._limit:
            self._meter.failed("", None, None, "Busy")
            call.done(RetryLater(BUSY))
            return
        self.in_flight += 1
        self._arrived.append(call)
        if alone:
            self._turn()
        elif len(self._arrived) == 1:
            self._loop.call_soon(self._look_again)

    async def answer(self, call: InferCall) -> InferAnswer:
        """Submit a call and wait for its answer. Raises DriftloopError."""
        future: asyncio.Future[InferAnswer] = self._loop.create_future()

        def done(answer: InferAnswer | DriftloopError) -> None:
            if future.cancelled():
                return
            if isinstance(answer, DriftloopError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        call.done = done
        self.submit(call)
        try:
            return await future
        except asyncio.CancelledError:
            call.cancelled = True
            raise

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    def _look_again(self) -> None:
        """Under load, poll the sockets once more before running: clients that were just answered
        are about to send their next request, which can then share the run."""
        if 1 < self._last_turn > len(self._arrived):
            self._loop.call_soon(self._turn)
        else:
            self._turn()

    def _turn(self) -> None:
        began = time.perf_counter()
        calls, self._arrived = self._arrived, []
        self._last_turn = len(calls)
        queues: dict[Any, BatchQueue] = {}
        for call in calls:
            try:
                queue = self._place(call)
            except DriftloopError as error:
                self._failed(call, error)
            except Exception:
                self._broke(call)
            else:
                if queue is not None:
                    queues[queue.key] = queue
        decoded = time.perf_counter()
        runs: list[Run] = []
        for queue in queues.values():
            self._start(queue, runs)
        self._finish(runs, decoded - began)
        self.busy_s += time.perf_counter() - began

    def _place(self, call: InferCall) -> BatchQueue | None:
        """Put the call into its queue, which is returned; None if it is answered in another way."""
        if call.given_id is None:
            call.prediction_id = new_prediction_id()
        else:
            call.prediction_id = call.given_id
            known = self._repeats.known(call)
            if known is not None:
                self._done(call, known)
                return None
            if self._repeats.joins(call):
                return None
        if self._table.is_remote(call.model):
            self._send_on(call)
            return None
        chosen, call.key_hash = self._table.choose(
            call.model, call.pinned, call.routing_key, call.prediction_id
        )
        request = call.request = call.codec.decode(
            call.payload, call.json_length, chosen.model.signature, chosen.rules
        )
        call.payload = None
        queue = self._queues.of(chosen, request.inputs)
        queue.calls.append(call)
        return queue

    def _start(self, queue: BatchQueue, runs: list[Run]) -> None:
        """Start the runs that may start now; those executed on the event loop are added to
        `runs`."""
        if queue.timer is not None or not queue.calls:
            return
        if not queue.chosen.model.awake:
            if not queue.waking:
                queue.waking = True
                queue.chosen.model.wake(partial(self._woken, queue))
            return
        delay_s = queue.chosen.max_queue_delay_s
        if delay_s and sum(c.request.rows for c in queue.calls) < queue.chosen.max_batch_rows:
            queue.timer = self._loop.call_later(delay_s, self._delay_elapsed, queue)
            return
        while queue.calls and queue.running < self._runs_per_queue:
            calls = self._still_wanted(queue.chosen, queue.take(), runs)
            if not calls:
                continue
            run = Run(queue.chosen, calls)
            rows = run.rows
            if queue.running == 0 and queue.expected_s(rows) < INLINE_S:
                done = run.execute()
                queue.learn(run.infer_s, rows)
                runs.extend(done)
            else:
                self._run_apart(queue, run)

    def _woken(self, queue: BatchQueue, error: DriftloopError | None) -> None:
        """Run the calls that waited for a graph that had left memory, or fail them."""
        queue.waking = False
        if error is not None:
            calls, queue.calls = queue.calls, []
            for call in calls:
                self._failed(call, error, queue.chosen)
        runs: list[Run] = []
        self._start(queue, runs)
        self._finish(runs, 0.0)

    def _run_apart(self, queue: BatchQueue, run: Run) -> None:
        queue.running += 1
        self._threads.submit(self._run_in_thread, queue, run)

    def _run_in_thread(self, queue: BatchQueue, run: Run) -> None:
        runs = run.execute()
        self._loop.call_soon_threadsafe(self._ran, queue, run, runs)

    def _ran(self, queue: BatchQueue, run: Run, runs: list[Run]) -> None:
        began = time.perf_counter()
        queue.running -= 1
        queue.learn(run.infer_s, run.rows)
        self._start(queue, runs)
        self._finish(runs, 0.0)
        self.busy_s += time.perf_counter() - began

    def _delay_elapsed(self, queue: BatchQueue) -> None:
        """Run all calls of the queue, because `max_queue_delay_s` has passed."""
        queue.timer = None
        late: list[Run] = []
        while queue.calls:
            calls = self._still_wanted(queue.chosen, queue.take(), late)
            if calls:
                self._run_apart(queue, Run(queue.chosen, calls))
        self._finish(late, 0.0)

    def _still_wanted(
        self, chosen: Chosen, calls: list[InferCall], runs: list[Run]
    ) -> list[InferCall]:
        """Return the calls to run; those past their deadline are added to `runs`, to be
        recorded."""
        now = time.perf_counter()
        for call in calls:
            if call.cancelled or now - call.received_at > call.timeout_s:
                break
        else:
            return calls
        wanted, late = [], []
        for call in calls:
            if now - call.received_at > call.timeout_s:
                late.append(call)
            elif call.cancelled and not self._repeats.awaited(call):
                self._failed(call, ClientGone())
            else:
                wanted.append(call)
        if late:
            run = Run(chosen, late)
            run.error = TIMEOUT
            runs.append(run)
        return wanted

    def _finish(self, runs: list[Run], input_s: float) -> None:
        """Write the runs to the spool, then answer. `input_s`: time spent on decoding the calls."""
        if not runs:
            return
        now = time.perf_counter()
        latencies_s = [[now - call.received_at for call in run.calls] for run in runs]
        records = [record_of(run, each) for run, each in zip(runs, latencies_s, strict=True)]
        kept = self._spool.append(records)
        if self._durability is None or not kept:
            self._leave(runs, latencies_s, now, input_s)
            return

        def leave() -> None:
            kept_at = time.perf_counter()
            later_s = [[s + kept_at - now for s in each] for each in latencies_s]
            self._leave(runs, later_s, kept_at, input_s)

        self._durability.after(rows_of(records), leave)

    def _leave(
        self, runs: list[Run], latencies_s: list[list[float]], now: float, input_s: float
    ) -> None:
        for run, run_latencies_s in zip(runs, latencies_s, strict=True):
            began = time.perf_counter()
            if run.outputs is None:
                self._fail(run)
                continue
            self._answer(run, run.outputs)
            waited_s = now - run.started_at  # from the start of the run to its record
            self._meter.answered(
                run.calls[0].model,
                run.chosen.version,
                run.chosen.arm,
                run_latencies_s,
                run.rows,
                sum(run_latencies_s) - waited_s * len(run.calls),
                input_s / len(runs),
                run.infer_s,
                time.perf_counter() - began,
            )

    def _fail(self, run: Run) -> None:
        for call in run.calls:
            if run.error == TIMEOUT:
                self._failed(call, RetryLater(LATE), run.chosen)
            else:
                sentence = (
                    f"version {run.chosen.version} of model {call.model!r} failed on this request"
                )
                self._failed(call, ModelFailed(sentence), run.chosen)

    def _answer(self, run: Run, outputs: Outputs) -> None:
        calls, chosen = run.calls, run.chosen
        version, signature = chosen.version, chosen.model.signature
        model, codec = calls[0].model, calls[0].codec
        if run.rows == len(calls) > 1 and all(call.codec is codec for call in calls):
            requests = [call.request for call in calls]
            try:
                together = codec.encode_rows(requests, outputs, model, version, signature)
            except Exception:  # encode one by one, so that only the faulty calls fail
                together = None
            if together is not None:
                for call, (payload, json_length) in zip(calls, together, strict=True):
                    self._done(call, InferAnswer(payload, json_length, call.prediction_id, version))
                return
        first = 0
        for call, rows in zip(calls, run.counts, strict=True):
            own = outputs
            if len(calls) > 1:
                own = {name: array[first : first + rows] for name, array in outputs.items()}
            first += rows
            try:
                payload, json_length = call.codec.encode(
                    call.request, own, model, version, signature
                )
            except Exception:
                self._broke(call, chosen)
            else:
                self._done(call, InferAnswer(payload, json_length, call.prediction_id, version))

    def _send_on(self, call: InferCall) -> None:
        if self._forward is None:
            raise RetryLater(f"model {call.model!r} is not loaded")
        task = self._loop.create_task(self._sent_on(call, self._forward))
        self._forwarding.add(task)
        task.add_done_callback(self._forwarding.discard)

    async def _sent_on(self, call: InferCall, forward: Forward) -> None:
        try:
            answer = await forward(call)
        except DriftloopError as error:
            self._failed(call, error)
        except Exception:
            self._broke(call)
        else:
            call.trace = None  # that is the other replica's
            self._done(call, answer)

    def _broke(self, call: InferCall, chosen: Chosen | None = None) -> None:
        """Answer a call after an unexpected exception, without showing its text to the client."""
        version, broken = chosen.version if chosen else None, InternalError()
        log.exception(
            "inference.broke", error_id=broken.error_id, model=call.model, version=version
        )
        self._failed(call, broken, chosen)

    def _failed(self, call: InferCall, error: DriftloopError, chosen: Chosen | None = None) -> None:
        known = call.model if call.model in self._table.models else ""
        version, arm = (chosen.version, chosen.arm) if chosen else (None, None)
        self._meter.failed(known, version, arm, type(error).__name__)
        self._done(call, error)

    def _done(self, call: InferCall, answer: InferAnswer | DriftloopError) -> None:
        self.in_flight -= 1
        try:
            call.done(answer)
        except Exception:  # a failing connection must not affect others
            log.exception("inference.unanswered", model=call.model)
        if call.trace is not None and self.tracing is not None:
            self.tracing.ended(call, answer)
        if call.given_id is not None:
            for twin in self._repeats.settle(call, answer):
                self._done(twin, answer)
