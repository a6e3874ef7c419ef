"""Zero-wait micro-batching: what arrives in one turn of the event loop shares one run.

A turn takes the calls that have arrived, chooses a version for each, decodes them, and puts them
into
lanes: one for each (graph, arm, shape class). A lane whose runs are short runs at once, on the
loop; one whose runs are long runs in a thread, and what arrives meanwhile shares the next run. So
nothing waits for a timer, and batches grow only under load. (`max_queue_delay_s` of a model is the
exception: there a lane waits so long for company.)

Delivery: run → one write to the spool for all that ran in this turn → answers, at once or as soon
as the `durability` that is set allows. What was not run because it came too late is written and
answered like a run that failed; what nobody waited for any more is not.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any

import numpy as np
import structlog

from driftloop_contracts.errors import DriftloopError, RetryLater
from driftloop_contracts.ids import new_prediction_id
from driftloop_serving.batching.model_table import Chosen, ModelTable
from driftloop_serving.batching.repeats import Repeats
from driftloop_serving.capture.durability import Durability, rows_of
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.capture.spool_record import PredictionBatch
from driftloop_serving.inference.infer_call import Codec, InferAnswer, InferCall, Meter

log = structlog.get_logger()

INLINE_S = 0.002
"""A run that takes longer would keep the loop from other requests for longer than a thread
costs."""
WORKERS = 2
LANES_KEPT = 512
BUSY = "too many requests are under way; try again"
LATE = "the request waited longer than its deadline allows; try again"
TIMEOUT = "Timeout"
"""The `error` of a request that was too late to run."""

Outputs = Mapping[str, np.ndarray]
Forward = Callable[[InferCall], Awaitable[InferAnswer | DriftloopError]]
"""Gives what the replica that was asked answered, and has counted; raises where none could be
asked."""


class ModelFailed(DriftloopError):
    """The graph raised on an input that fits its signature (HTTP 500)."""


class ClientGone(DriftloopError):
    """The client left before its run: nobody waits for an answer."""


class BatchQueue:
    """Calls that may share a run. `cost_s`: what a run of `cost_rows` took, smoothed."""

    __slots__ = ("calls", "chosen", "cost_rows", "cost_s", "key", "running", "timer")

    def __init__(self, key: Any, chosen: Chosen) -> None:
        self.key = key
        self.chosen = chosen
        self.calls: list[InferCall] = []
        self.running = 0
        self.cost_s, self.cost_rows = INLINE_S, 1.0  # unknown: the first run goes to a thread
        self.timer: asyncio.TimerHandle | None = None

    def expected_s(self, rows: int) -> float:
        return self.cost_s * max(1.0, rows / self.cost_rows)

    def learn(self, seconds: float, rows: int) -> None:
        self.cost_s += 0.2 * (seconds - self.cost_s)
        self.cost_rows += 0.2 * (rows - self.cost_rows)

    def take(self) -> list[InferCall]:
        """The calls of the next run: at most `max_batch_rows` rows, at least one call."""
        chosen, calls = self.chosen, self.calls
        if not chosen.batchable:
            self.calls = calls[1:]
            return calls[:1]
        rows = 0
        for number, call in enumerate(calls):
            rows += call.request.rows
            if rows > chosen.max_batch_rows and number:
                self.calls = calls[number:]
                return calls[:number]
        self.calls = []
        return calls


class Run:
    """Calls of one lane that ran together. `outputs` None: they are answered with `error`."""

    __slots__ = (
        "calls",
        "chosen",
        "counts",
        "error",
        "infer_s",
        "inputs",
        "outputs",
        "rows",
        "started_at",
    )

    def __init__(self, chosen: Chosen, calls: list[InferCall]) -> None:
        self.chosen = chosen
        self.calls = calls
        self.inputs = _gathered(calls)
        self.counts = [call.request.rows for call in calls]
        self.rows = sum(self.counts)
        self.outputs: Outputs | None = None
        self.error: str | None = None
        self.started_at = time.perf_counter()
        self.infer_s = 0.0

    def execute(self) -> "list[Run]":
        """Runs the graph; where several calls fail together each runs alone, so that only the ones
        that are at fault fail. May be called in a thread."""
        try:
            self.outputs = self._outputs()
        except Exception as failure:  # onnxruntime's own errors share no public base
            if len(self.calls) > 1:
                return [run for call in self.calls for run in Run(self.chosen, [call]).execute()]
            self.error = type(failure).__name__
            log.warning(
                "inference.failed",
                model=self.calls[0].model,
                version=self.chosen.version,
                error=str(failure),
            )
        finally:
            self.infer_s = time.perf_counter() - self.started_at
        return [self]

    def _outputs(self) -> Outputs:
        outputs: Outputs = self.chosen.model.run(self.inputs)
        if len(self.calls) > 1:
            rows = self.rows
            if any(array.shape[:1] != (rows,) for array in outputs.values()):
                raise ValueError("the rows of the outputs are not those of the inputs")
        return outputs


def _gathered(calls: Sequence[InferCall]) -> Mapping[str, np.ndarray]:
    first: dict[str, np.ndarray] = calls[0].request.inputs
    if len(calls) == 1:
        return first
    return {name: np.concatenate([call.request.inputs[name] for call in calls]) for name in first}


class Batcher:
    """`submit` is called on the event loop. `in_flight_limit`: calls that may be under way; more
    are told to try again. `table` is replaced as a whole when the deployments change. `forward`:
    who answers for a model that this process does not hold itself. `durability` None: what is in
    the spool is answered at once."""

    def __init__(
        self,
        spool: SpoolWriter,
        meter: Meter,
        *,
        in_flight_limit: int,
        forward: Forward | None = None,
        durability: Durability | None = None,
    ) -> None:
        self._table = ModelTable()
        self._spool = spool
        self._durability = durability
        self._meter = meter
        self._limit = in_flight_limit
        self._forward = forward
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(WORKERS, "run")
        self._arrived: list[InferCall] = []
        self._last_turn = 0
        self._lanes: dict[Any, BatchQueue] = {}
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
        self._forget_idle_lanes()

    def _forget_idle_lanes(self) -> None:
        self._lanes = {key: lane for key, lane in self._lanes.items() if lane.calls or lane.running}

    def submit(self, call: InferCall, *, alone: bool = False) -> None:
        """Answer a call. `alone`: nobody else can arrive in this turn, so do not wait for its
        end."""
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

    async def answer(
        self,
        form: Codec,
        model: str,
        pinned: str | None,
        payload: Any,
        json_length: int | None,
        given_id: str | None,
        routing_key: bytes | None,
        timeout_s: float = inf,
    ) -> InferAnswer:
        """For callers that can wait. Raises DriftloopError."""
        future: asyncio.Future[InferAnswer] = self._loop.create_future()

        def done(answer: InferAnswer | DriftloopError) -> None:
            if future.cancelled():
                return
            if isinstance(answer, DriftloopError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        call = InferCall(
            form,
            model,
            pinned,
            payload,
            json_length,
            given_id,
            routing_key,
            time.perf_counter(),
            done,
            timeout_s,
        )
        self.submit(call)
        try:
            return await future
        except asyncio.CancelledError:
            call.cancelled = True
            raise

    def close(self) -> None:
        self._threads.shutdown(wait=False)

    def _look_again(self) -> None:
        """Under load, look once more at the sockets, without waiting, before this turn's runs:
        those who have just been answered are about to ask again."""
        if 1 < self._last_turn > len(self._arrived):
            self._loop.call_soon(self._turn)
        else:
            self._turn()

    def _turn(self) -> None:
        began = time.perf_counter()
        calls, self._arrived = self._arrived, []
        self._last_turn = len(calls)
        lanes: dict[Any, BatchQueue] = {}
        for call in calls:
            try:
                lane = self._place(call)
            except DriftloopError as error:
                self._failed(call, error)
            except Exception:
                self._broke(call)
            else:
                if lane is not None:
                    lanes[lane.key] = lane
        decoded = time.perf_counter()
        runs: list[Run] = []
        for lane in lanes.values():
            self._start(lane, runs)
        self._finish(runs, decoded - began)
        self.busy_s += time.perf_counter() - began

    def _place(self, call: InferCall) -> BatchQueue | None:
        """The lane that the call went to; None where it has its answer already, or gets
        another's."""
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
        if self._table.is_elsewhere(call.model):
            self._send_on(call)
            return None
        chosen = self._table.choose(
            call.model, call.pinned, call.routing_key or call.prediction_id.encode()
        )
        request = call.request = call.form.decode(
            call.payload, call.json_length, chosen.model.signature, chosen.rules
        )
        call.payload = None
        key = chosen.lane if chosen.one_shape else (chosen.lane, *_shapes(request.inputs))
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= LANES_KEPT:  # clients choose shapes, and could go on for ever
                self._forget_idle_lanes()
            lane = self._lanes[key] = BatchQueue(key, chosen)
        lane.calls.append(call)
        return lane

    def _start(self, lane: BatchQueue, runs: list[Run]) -> None:
        """Run what waits in the lane as far as it may run now; what ran inline goes to `runs`."""
        if lane.timer is not None or not lane.calls:
            return
        delay_s = lane.chosen.max_queue_delay_s
        if delay_s and sum(c.request.rows for c in lane.calls) < lane.chosen.max_batch_rows:
            lane.timer = self._loop.call_later(delay_s, self._delay_elapsed, lane)
            return
        while lane.calls and lane.running < WORKERS:
            calls = self._still_wanted(lane.chosen, lane.take(), runs)
            if not calls:
                continue
            run = Run(lane.chosen, calls)
            rows = run.rows
            if lane.running == 0 and lane.expected_s(rows) < INLINE_S:
                done = run.execute()
                lane.learn(run.infer_s, rows)
                runs.extend(done)
            else:
                self._run_apart(lane, run)

    def _run_apart(self, lane: BatchQueue, run: Run) -> None:
        lane.running += 1
        self._threads.submit(self._run_in_thread, lane, run)

    def _run_in_thread(self, lane: BatchQueue, run: Run) -> None:
        runs = run.execute()
        self._loop.call_soon_threadsafe(self._ran, lane, run, runs)

    def _ran(self, lane: BatchQueue, run: Run, runs: list[Run]) -> None:
        began = time.perf_counter()
        lane.running -= 1
        lane.learn(run.infer_s, run.rows)
        self._start(lane, runs)
        self._finish(runs, 0.0)
        self.busy_s += time.perf_counter() - began

    def _delay_elapsed(self, lane: BatchQueue) -> None:
        """The delay is over: what has gathered runs."""
        lane.timer = None
        late: list[Run] = []
        while lane.calls:
            calls = self._still_wanted(lane.chosen, lane.take(), late)
            if calls:
                self._run_apart(lane, Run(lane.chosen, calls))
        self._finish(late, 0.0)

    def _still_wanted(
        self, chosen: Chosen, calls: list[InferCall], runs: list[Run]
    ) -> list[InferCall]:
        """Those that are to run. Who came too late gets an answer, and a record: in `runs`."""
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
        """Spool, then answer. `input_s`: what it took to decode the calls of these runs."""
        if not runs:
            return
        now = time.perf_counter()
        latencies_s = [[now - call.received_at for call in run.calls] for run in runs]
        records = [_record(run, each) for run, each in zip(runs, latencies_s, strict=True)]
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
        model, form = calls[0].model, calls[0].form
        if run.rows == len(calls) > 1 and all(call.form is form for call in calls):
            requests = [call.request for call in calls]
            try:
                together = form.encode_rows(requests, outputs, model, version, signature)
            except Exception:  # one by one, only those at fault fail
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
                payload, json_length = call.form.encode(
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
            self._done(call, answer)

    def _broke(self, call: InferCall, chosen: Chosen | None = None) -> None:
        """For an exception that nobody foresaw: its text must not reach a client."""
        version = chosen.version if chosen else None
        log.exception("inference.broke", model=call.model, version=version)
        self._failed(call, DriftloopError("internal error"), chosen)

    def _failed(self, call: InferCall, error: DriftloopError, chosen: Chosen | None = None) -> None:
        known = call.model if call.model in self._table.models else ""
        version, arm = (chosen.version, chosen.arm) if chosen else (None, None)
        self._meter.failed(known, version, arm, type(error).__name__)
        self._done(call, error)

    def _done(self, call: InferCall, answer: InferAnswer | DriftloopError) -> None:
        self.in_flight -= 1
        try:
            call.done(answer)
        except Exception:  # one connection's trouble must not be its neighbours'
            log.exception("inference.unanswered", model=call.model)
        if call.given_id is not None:
            for twin in self._repeats.settle(call, answer):
                self._done(twin, answer)


def _shapes(inputs: Mapping[str, np.ndarray]) -> list[tuple[int, ...]]:
    return [array.shape[1:] for array in inputs.values()]


def _record(run: Run, latencies_s: list[float]) -> PredictionBatch:
    calls, chosen = run.calls, run.chosen
    given_ids = [call.given_id for call in calls]
    batch = PredictionBatch(
        calls[0].model,
        chosen.version,
        chosen.arm,
        [call.prediction_id for call in calls],
        latencies_s,
        run.counts,
        chosen.model.signature,
        run.inputs,
        run.outputs,
        run.error,
        client_ids=given_ids.count(None) < len(given_ids),
    )
    return batch if chosen.capture is None else chosen.capture.apply(batch)
