"""A task plane for tests: a real gRPC server on a loopback port, with its tasks in memory.

    async with FakeTaskService() as fake:
        fake.script(GenerateImageInput, progress(1, total=2), succeed(GenerateImageOutput(seed=7)))
        async with AsyncTaskClient(fake.address, key=fake.key) as client:
            ...
        assert fake.submissions[0].spec.generate_image.prompt == "a red kite"

Code without asyncio uses ``with running_fake() as fake:``.

A task runs the script of its type as soon as it is submitted: it starts, takes the steps in order,
and succeeds with an empty output if no step ends it. Errors have the code, the reason and the
details of the real service; ``refuse`` makes the next calls fail, ``lose_replies`` lets them take
effect and then cuts their answer, ``cut_streams`` breaks what is being watched, ``stop`` and
``start`` restart the server on its port with its tasks kept, ``change_epoch`` makes every cursor
stale. Delays and expiry are recorded, and not waited for; of the contract's rules only those about
ids, projects and the presence of an input are checked.
"""

from callsheet.client.testing.script import (
    Hold,
    Step,
    fail,
    fail_attempt,
    hold,
    hold_pending,
    progress,
    succeed,
)
from callsheet.client.testing.service import Call, FakeTaskService, running_fake

__all__ = [
    "Call",
    "FakeTaskService",
    "Hold",
    "Step",
    "fail",
    "fail_attempt",
    "hold",
    "hold_pending",
    "progress",
    "running_fake",
    "succeed",
]
