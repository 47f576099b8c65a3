"""A runner whose `generate_video` renders whatever its model makes, and is killed on the way.

The first attempt sends itself SIGKILL behind a step, once what it saved has left the process; all
else is the product's. Started as a script, with the arguments of `python -m callsheet.runner`.
"""

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final, cast

from google.protobuf.message import Message

from callsheet.runner.attempt import AttemptContext
from callsheet.runner.context import Handler, TaskContext
from callsheet.runner.handlers import handler_for
from callsheet.runner.main import serve
from callsheet.tasks.v1.generate_video_pb2 import GenerateVideoInput, GenerateVideoOutput

# Started as a script, it has the folder of the script to import from, not that of the repository.
sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.rendering import MODES, contents, request_of

#: Behind which step the first attempt dies.
DIES_BEHIND: Final = 2

_SAVED_WITHIN: Final = timedelta(seconds=60)


def run(message: Message, context: TaskContext) -> Message:
    """Render the usual request of the model; die on the way in the first attempt."""
    input_message = cast("GenerateVideoInput", message)
    pipeline = context.pipeline(input_message.model)
    family = pipeline.model.family

    def words(step: int, of: int) -> str:
        if context.attempt == 1:
            _save(context)
            if step == DIES_BEHIND:
                os.kill(os.getpid(), signal.SIGKILL)
        return f"step {step} of {of}"

    rendered = pipeline.render(request_of(family, MODES[family]), context.controls(words=words))
    (content,) = contents(rendered)
    return GenerateVideoOutput(
        model=pipeline.model.name,
        video=context.put(content, media_type="application/octet-stream", suffix="raw"),
    )


def _save(context: TaskContext) -> None:
    """Return when all that was to be saved has left the process."""
    assert isinstance(context, AttemptContext)
    assert context._uploads.finish(within=_SAVED_WITHIN)  # pyright: ignore[reportPrivateUsage]  # a test of a fault reaches for the part that fails


def resolve(task_type: str) -> Handler:
    """Return the script for `generate_video`, and the product's handler for everything else."""
    return run if task_type == "generate_video" else handler_for(task_type)


if __name__ == "__main__":
    serve(sys.argv[1:], resolve=resolve)
