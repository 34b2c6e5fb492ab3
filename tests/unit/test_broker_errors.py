"""What the broker's library raises for a lost connection is one error of ours; what is a bug stays one."""

from __future__ import annotations

import asyncio

import pytest
from aio_pika.exceptions import AMQPConnectionError, DeliveryError
from aiormq.connection import FrameReceiver
from pamqp import commands as spec

from interlock.adapters.subscription import broker_errors
from interlock.contract.errors import Transient


async def test_a_line_that_is_cut_before_the_brokers_first_word_was_lost() -> None:
    reader = asyncio.StreamReader()
    reader.feed_eof()
    with pytest.raises(Transient, match="before the broker's first word"), broker_errors():
        await FrameReceiver(reader).get_frame()


@pytest.mark.parametrize(
    "told", [AMQPConnectionError("gone"), ConnectionResetError("gone"), TimeoutError(), RuntimeError(), Exception()]
)
def test_each_word_for_a_lost_connection_is_transient(told: Exception) -> None:
    with pytest.raises(Transient), broker_errors():
        raise told


@pytest.mark.parametrize("told", [DeliveryError(None, spec.Basic.Nack()), KeyError("a bug"), ValueError("a bug")])
def test_what_a_message_or_our_own_code_did_wrong_passes(told: Exception) -> None:
    with pytest.raises(type(told)), broker_errors():
        raise told


async def test_a_cancel_that_somebody_asked_for_passes_and_another_is_a_lost_connection() -> None:
    with pytest.raises(Transient, match="closed under a call"), broker_errors():
        raise asyncio.CancelledError

    async def wait_for_ever() -> None:
        with broker_errors():
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await wait_for_ever()
