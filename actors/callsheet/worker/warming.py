"""Starts runners ahead of their first attempts, and says how long that may take."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Final

from callsheet.broker.slots import Slots
from callsheet.runtime.settings import Settings
from callsheet.worker.runner_host import READY_WITHIN, RunnerHost, RunnerUnavailable

_CPU: Final = "cpu"


def compiles_ahead(settings: Settings, *, device: str) -> bool:
    """Tell whether the runner of a device compiles before it is ready."""
    return settings.compile != "off" and device != _CPU


def ready_within(settings: Settings, *, device: str) -> timedelta:
    """Return how long the runner of a device may take until it is ready."""
    if not compiles_ahead(settings, device=device):
        return READY_WITHIN
    # What is begun just before the limit still has the usual time.
    return settings.warm_up_limit + READY_WITHIN


def start_ahead(host: RunnerHost, slots: Slots, *, holds_slot: bool) -> asyncio.Task[None]:
    """Start a runner, so that it has imported torch by its first attempt.

    With *holds_slot* none is claimed for it before it is ready: others would be faster. One that
    cannot be started is news for its attempts.
    """
    if holds_slot:
        slots.take(1)
    return asyncio.create_task(_started(host, slots, holds_slot=holds_slot))


async def _started(host: RunnerHost, slots: Slots, *, holds_slot: bool) -> None:
    try:
        with suppress(RunnerUnavailable):
            await host.start()
    finally:
        if holds_slot:
            slots.release()
