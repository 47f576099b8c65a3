"""Whose progress is told, and what of it was told already."""

from callsheet.ledger.instants import microseconds
from callsheet.ledger.model import CallbackEvent
from callsheet.sidecar.progress import PERIOD, RunningProgress
from callsheet.sidecar.wishes import Wishes
from tests.support.sidecars import WebhookCell

URL = "https://a.example/hook"


async def test_a_tailer_that_begins_anew_forgets_what_it_told(webhooks: WebhookCell) -> None:
    """What is told twice is recorded once; what was told to nobody must not be held back."""
    now = 0.0
    plane = webhooks.plane
    running = RunningProgress(plane.store, webhooks.deliveries, plane.keys, clock=lambda: now)
    wishes = Wishes(plane.store)
    task = await webhooks.submitted(URL, events=[CallbackEvent.PROGRESS])
    task = await webhooks.started(task)
    await webhooks.progressed(task, 3, time=microseconds(task.update_time) + 1)
    # Given progress that is told
    await running.begin(wishes)
    [newest] = await running.newest()
    assert running.told(newest)
    now += PERIOD
    assert await running.newest() == []
    # When the role is taken anew, then nothing of before counts
    await running.begin(wishes)
    now += PERIOD
    assert await running.newest() == [newest]
