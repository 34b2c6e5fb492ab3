"""The PostgreSQL pool and its error mapper. Foreign exceptions end here; no statement of the product lives here."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg

from interlock.contract.errors import InterlockError, Misconfigured, Poison, Transient, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from asyncpg import Connection, Pool
    from asyncpg.pool import PoolConnectionProxy

    Tx = Connection[Any] | PoolConnectionProxy[Any]

# Statements of the daemons reach rows by key. Plans prepared on empty tables must not turn into scans and hash joins
# when the tables grow, and compiling a cheap statement costs more than running it.
HOT = {
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
# What people ask is planned each time for what the tables hold by then: a client may live long and ask seldom.
COLD = {"jit": "off", "plan_cache_mode": "force_custom_plan"}


FOREIGN = (asyncpg.PostgresError, asyncpg.InternalClientError, asyncpg.InterfaceError, OSError, TimeoutError)


class BadData(Poison):
    """PostgreSQL refused a value (SQLSTATE class 22 or 23): one of the rows of the flush is at fault."""

    reason = "bad_data"


async def open_pool(
    url: str,
    *,
    application: str,
    size: int,
    hot: bool = True,
    statement_seconds: float = 30.0,
) -> Pool[Any]:
    """A pool of up to `size` connections whose statements are cut off after `statement_seconds`.

    Raises Unavailable, naming host and port, when PostgreSQL cannot be reached.
    """
    settings = {
        "application_name": application,
        "statement_timeout": f"{int(statement_seconds * 1000)}",
        "idle_in_transaction_session_timeout": f"{int(statement_seconds * 2000)}",
        **(HOT if hot else COLD),
    }
    try:
        return await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            timeout=10,
            command_timeout=statement_seconds + 5,
            server_settings=settings,
            # No session state is ever set, so the default reset of a released connection would only cost a round trip.
            reset=_keep,
        )
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unavailable(unreachable(url, error)) from error


async def _keep(_connection: object) -> None:
    """Leave a released connection as it is."""


def unreachable(url: str, error: BaseException) -> str:
    """One line for the operator: which server, why, and what to check; never the password."""
    parts = urlsplit(url)
    reason = " ".join((str(error) or type(error).__name__).split())
    where = f"{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"
    return f"PostgreSQL at {where} cannot be reached ({reason}): check INTERLOCK_DATABASE_URL and the server"


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Map what asyncpg raises to the error tree: BadData for the rows' fault, Transient for everything passing."""
    try:
        yield
    except FOREIGN as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # What the library says about a call that was cut short must not take the place of the cancellation.
            raise asyncio.CancelledError from error
        meaning = _meaning(error)
        if meaning is None:
            raise
        raise meaning from error


def _meaning(error: BaseException) -> InterlockError | None:
    """What an error of the library is for us; None is a bug and passes as it is."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state[:2] in {"22", "23"} or state == "54000":
            return BadData(f"{state}: {error}")
        if state[:2] in {"08", "40", "53", "55", "57", "58"}:
            return Transient(f"{state}: {error}")
        if state == "42501":
            return Misconfigured(f"{error}: this database user lacks a right that Interlock needs")
        return None
    if isinstance(error, asyncpg.InternalClientError):
        # The server cut an idle connection, and its last words were unread when the next statement began; or it cut one
        # that was just being given back.
        cut = "another operation" in str(error) or "free connection holder" in str(error)
        return Transient(str(error)) if cut else None
    # A value that cannot be sent is an InterfaceError and a ValueError.
    return BadData(str(error)) if isinstance(error, ValueError) else Transient(str(error) or type(error).__name__)


@contextmanager
def starting() -> Iterator[None]:
    """Around what a daemon does first: a database that goes away meanwhile cannot be reached, which is not a bug."""
    try:
        yield
    except Transient as error:
        raise Unavailable(f"PostgreSQL was lost while this daemon started ({error}): start it again") from error


async def listen(pool: Pool[Any], channel: str, heard: Callable[[], None]) -> None:
    """Call `heard` when this begins and at each notification, on a connection of its own; returns when that is lost.

    Raises Transient. What was notified while nobody listened is lost: whoever listens must look by itself as well.
    """
    lost = asyncio.Event()

    def on_notice(*_: object) -> None:
        heard()

    with mapped_errors():
        async with pool.acquire() as connection:
            connection.add_termination_listener(lambda _connection: lost.set())
            await connection.add_listener(channel, on_notice)
            try:
                heard()
                await lost.wait()
            finally:
                if not connection.is_closed():
                    await connection.remove_listener(channel, on_notice)


@asynccontextmanager
async def single_statements(pool: Pool[Any]) -> AsyncIterator[Tx]:
    """A connection on which each statement is a transaction of its own, errors mapped: one round trip, not three.

    For work that is one guarded statement, or some of which each may be repeated.
    """
    with mapped_errors():
        async with pool.acquire() as connection:
            yield connection


@asynccontextmanager
async def transaction(pool: Pool[Any]) -> AsyncIterator[Tx]:
    """A connection inside a READ COMMITTED transaction, errors mapped; commits on leaving, rolls back on an error."""
    with mapped_errors():
        async with pool.acquire() as connection, connection.transaction():
            yield connection
