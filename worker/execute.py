"""The story of one execution: validate, render, run, judge, hand the end over. Writes nothing itself.

What an action does is at least once; the attempt number handed to it lets it fence its own effects.
"""

from __future__ import annotations

import asyncio
import logging
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import orjson

from interlock.acceptance.candidates import PLAN
from interlock.actions.rendering import render_command, render_http
from interlock.adapters.faults import reached
from interlock.adapters.logs import get_logger
from interlock.contract.definitions import Retry
from interlock.contract.errors import Refused
from interlock.contract.status import Status
from worker.holdings import Holding, Holdings
from worker.outcome import Outcome, failed
from worker.planning import PLANNING
from worker.plans import PlanFailed, Spool
from worker.retry import retry_delay
from worker.runners.command import run_command
from worker.runners.function import Context, Functions, run_function
from worker.runners.grace import Grace
from worker.runners.http import run_http
from worker.runners.logsink import LogEntry, LogSink
from worker.store import Finish, LogLine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from concurrent.futures import Executor

    import httpx
    from asyncpg import Record

    from interlock.acceptance.entries import Entry
    from interlock.adapters.telemetry import Metrics
    from worker.finish import Finisher, LogWriter
    from worker.planning import Planner
    from worker.runners.address import Guard
    from worker.runners.warm import WarmProcesses

Measure: TypeAlias = "Callable[[float], None]"

TIMED_OUT: Final = "RunTimeout"


class Runners:
    """What the three kinds of action need: the allowlist, the threads, warm processes, the HTTP client and its guard.

    `inherited` is what commands get of the worker's environment.
    """

    def __init__(
        self,
        *,
        functions: Functions,
        threads: Executor,
        warm: WarmProcesses,
        client: httpx.AsyncClient,
        guard: Guard,
        inherited: Mapping[str, str],
    ) -> None:
        self._inherited = inherited
        self._functions = functions
        self._threads = threads
        self._warm = warm
        self._client = client
        self._guard = guard

    async def run(self, entry: Entry, params: dict[str, object], holding: Holding, sink: LogSink) -> Outcome:
        """Run the action with rendered inputs. Raises Refused for what must not run."""
        action = entry.action
        entry.schema.check(params)  # type: ignore[arg-type]  # params come from jsonb
        if action.command is not None:
            argv = render_command(action, params)  # type: ignore[arg-type]
            identity = {"INTERLOCK_EXECUTION_ID": str(holding.id), "INTERLOCK_ATTEMPT": str(holding.attempt)}
            env = {**self._inherited, **identity}
            return await run_command(argv, env=env, sink=sink, grace=holding.grace, limits=action.resources)
        if action.function is not None and action.isolation == "process":
            return await self._warm.run(
                action.function,
                params,
                execution_id=str(holding.id),
                attempt=holding.attempt,
                sink=sink,
                grace=holding.grace,
            )
        if action.function is not None:
            context = Context(execution_id=str(holding.id), attempt=holding.attempt, sink=sink)
            target = self._functions.resolve(action.function)
            take = sink.take if isinstance(sink, Spool) else None
            return await run_function(target, params, context, executor=self._threads, take=take)
        request = render_http(action, params)  # type: ignore[arg-type]
        return await run_http(
            self._client,
            method=request.method,
            url=request.url,
            headers={
                **request.headers,
                "Interlock-Execution": str(holding.id),
                "Interlock-Attempt": str(holding.attempt),
            },
            body=request.body,
            sink=sink,
            guard=self._guard,
        )


class Executions:
    """Starts what was claimed, each in a task of the worker's group, and hands the ends to the finisher."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        *,
        runners: Runners,
        planner: Planner,
        holdings: Holdings,
        finisher: Finisher,
        logs: LogWriter,
        metrics: Metrics,
    ) -> None:
        self._tasks = tasks
        self._runners = runners
        self._planner = planner
        self._holdings = holdings
        self._finisher = finisher
        self._logs = logs
        self._metrics = metrics
        self._measures: dict[str, tuple[Measure, Measure]] = {}
        self._log = get_logger("execute")
        self._telling = self._log.is_enabled_for(logging.DEBUG)

    def start(self, claimed: Record, entry: Entry | None) -> None:
        """Run one claimed execution; `entry` is None when this version cannot read its definition."""
        if claimed["action"] == PLAN:
            entry = PLANNING
        grace = Grace(0.0 if entry is None else entry.action.grace)
        holding = Holding(id=claimed["id"], attempt=claimed["attempt"], started_at=datetime.now(UTC), grace=grace)
        self._holdings.add(holding)
        waited, _ = self._measured(claimed["action"])
        waited(claimed["waited_seconds"])
        self._tasks.create_task(self._story(holding, claimed, entry))

    def _measured(self, action: str) -> tuple[Measure, Measure]:
        """What takes the wait and the duration of this action: looking them up costs more than both."""
        found = self._measures.get(action)
        if found is None:
            wait, duration = self._metrics.queue_wait, self._metrics.execution_duration
            found = self._measures[action] = wait.labels(action).observe, duration.labels(action).observe
        return found

    async def _story(self, holding: Holding, claimed: Record, entry: Entry | None) -> None:
        # From here on a word to stop reaches the task; one that came before the first step is seen below.
        holding.task = asyncio.current_task()
        if holding.ending is not None:
            outcome = Outcome(status=Status.CANCELLED)
        elif entry is None:
            outcome = failed("DefinitionUnreadable", "this worker cannot read the definition: upgrade the worker")
        else:
            outcome = await self._outcome(holding, entry, orjson.loads(claimed["params"]))
        end = _end(holding, claimed, entry, outcome)
        elapsed = (datetime.now(UTC) - holding.started_at).total_seconds()
        _, took = self._measured(end.action)
        took(elapsed)
        if self._telling:
            self._log.debug("ran", execution_id=str(holding.id), attempt=holding.attempt, outcome=end.outcome)
        self._finisher.put(end)

    async def _outcome(self, holding: Holding, entry: Entry, params: dict[str, object]) -> Outcome:
        try:
            return await _timed(entry.action.timeout.run, self._attempt(holding, entry, params))
        except asyncio.CancelledError:
            if holding.ending is None:
                raise
            return Outcome(status=Status.CANCELLED)
        except Refused as refusal:
            return failed(refusal.code, str(refusal))
        except Exception as error:  # noqa: BLE001 - a delivery ends here: a bug of ours must not hold the execution
            self._log.exception("a runner failed", execution_id=str(holding.id))
            return failed(type(error).__name__, f"the worker could not run it: {error}")

    async def _attempt(self, holding: Holding, entry: Entry, params: dict[str, object]) -> Outcome:
        await reached("execution.started")
        sink = LogSink(self._emit(holding))
        if entry is PLANNING:
            outcome = await self._plan(holding, sink)
        else:
            outcome = await self._runners.run(entry, params, holding, sink)
        await reached("execution.ended")
        return outcome

    async def _plan(self, holding: Holding, sink: LogSink) -> Outcome:
        try:
            return await self._planner.run(holding, sink, self._run_planner)
        except PlanFailed as failure:
            return failure.outcome

    async def _run_planner(self, entry: Entry, params: dict[str, Any], holding: Holding, sink: LogSink) -> Outcome:
        holding.grace.allow(entry.action.grace)
        return await _timed(entry.action.timeout.run, self._runners.run(entry, params, holding, sink))

    def _emit(self, holding: Holding) -> Callable[[LogEntry], None]:
        def emit(entry: LogEntry) -> None:
            self._logs.put(
                LogLine(
                    id=holding.id,
                    attempt=holding.attempt,
                    number=entry.number,
                    stream=entry.stream,
                    line=entry.line,
                    at=entry.at,
                )
            )

        return emit


async def _timed(limit: float | None, attempt: Awaitable[Outcome]) -> Outcome:
    """Let an attempt run at most `limit` seconds."""
    if limit is None:
        return await attempt
    try:
        async with asyncio.timeout(limit) as deadline:
            return await attempt
    except TimeoutError:
        if not deadline.expired():
            raise
        failure = failed(TIMED_OUT, f"the attempt ran longer than {limit:g} s").failure
        return Outcome(status=Status.TIMED_OUT, failure=failure)


def _end(holding: Holding, claimed: Record, entry: Entry | None, outcome: Outcome) -> Finish:
    """Judge: the outcome as it is, a retry, or handed back when the worker itself asked it to stop."""
    target, remembered, delay = str(outcome.status), str(outcome.status), 0.0
    if outcome.status is Status.CANCELLED and holding.ending != "cancelled":
        target, remembered = Status.REQUESTED, "handed_back"
    elif entry is not None:
        of_batch = claimed["retry"]
        policy = outcome.retry or (entry.action.retry if of_batch is None else Retry.model_validate_json(of_batch))
        wait = retry_delay(policy, outcome, claimed["failures"], random.random())  # noqa: S311 - jitter
        if wait is not None:
            target, delay = Status.REQUESTED, wait
    failure = outcome.failure
    told = None
    if failure is not None:
        told = {"class": failure.error_class, "message": failure.message, "traceback": failure.traceback}
        told["fingerprint"] = failure.fingerprint
    return Finish(
        id=holding.id,
        action=claimed["action"],
        attempt=holding.attempt,
        target=target,
        outcome=remembered,
        result=outcome.result_json,
        error=None if told is None else orjson.dumps({k: v for k, v in told.items() if v is not None}).decode(),
        error_class=failure.error_class if failure else None,
        error_text=failure.message if failure else None,
        fingerprint=failure.fingerprint if failure else None,
        exit_code=outcome.exit_code,
        delay=delay,
        started_at=holding.started_at,
    )
