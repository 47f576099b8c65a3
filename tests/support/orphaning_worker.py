"""A worker that is killed in the middle of inference: prints its runner's process id, and waits.

Started by `python -m` in the root of the repository; its environment is the runner's.
"""

import sys
from datetime import timedelta

import uvloop

from callsheet.runtime.logs import configure_logging
from callsheet.runtime.settings import load_settings_or_exit
from callsheet.v1.task_pb2 import Progress
from callsheet.worker.runner_host import RunnerHost
from tests.support.runners import LONG, long_image


async def main() -> None:
    """Run an attempt; whoever started this kills it after its first step."""
    configure_logging(load_settings_or_exit(), process="worker")
    host = RunnerHost("cpu")

    told = False

    def tell(progress: Progress) -> None:
        nonlocal told
        # Newer progress replaces what was not sent yet: nobody may be told of the first step.
        if progress.current and not told:
            told = True
            sys.stdout.write(f"{host.pid}\n")
            sys.stdout.flush()

    await host.run(
        long_image(),
        time_limit=LONG,
        grace_period=timedelta(seconds=1),
        on_progress=tell,
    )


if __name__ == "__main__":
    uvloop.run(main())
