"""The product's runner, with a witness: its images are drawn by chance, so it needs no torch."""

import io
import os
import sys
from typing import cast

from google.protobuf.message import Message
from PIL import Image

from callsheet.runner.context import Handler, TaskContext
from callsheet.runner.handlers import handler_for
from callsheet.runner.main import serve
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from tests.chaos.work import Witness, act

_SIDE = 32


def run(message: Message, context: TaskContext) -> Message:
    """Do what the prompt says, and store an image."""
    prompt = cast("GenerateImageInput", message).prompt
    with _witness.watching(context):
        context.report(1, 2, "drawing")
        act(prompt, context)
        artifact = context.put(
            _noise(), media_type="image/png", suffix="png", width=_SIDE, height=_SIDE
        )
    return GenerateImageOutput(images=[artifact], model="tiny-random", width=_SIDE, height=_SIDE)


def resolve(task_type: str) -> Handler:
    """Return what draws images by chance, and the product's handler for everything else."""
    return run if task_type == "generate_image" else handler_for(task_type)


def _noise() -> bytes:
    content = io.BytesIO()
    Image.frombytes("RGB", (_SIDE, _SIDE), os.urandom(3 * _SIDE * _SIDE)).save(content, "PNG")
    return content.getvalue()


if __name__ == "__main__":
    _witness = Witness()
    serve([*sys.argv[1:], "--import-on-demand"], resolve=resolve)
