"""How demos tell what happens to a task, and look at the images it made."""

from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from callsheet.embedded.demo_plane import DemoFailed
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.v1.task_event_pb2 import TaskEvent
from callsheet.v1.task_pb2 import Progress

_BAR: Final = 24


def tell(event: TaskEvent) -> None:
    """Print what happened: a fact, or progress that is not the end of it."""
    if event.HasField("progress"):
        if event.progress.percentage < 100:
            tell_progress(event.progress)
    else:
        print(f"fact {event.sequence:<6} {_fact(event)}", flush=True)


def tell_progress(progress: Progress) -> None:
    """Print how far a task is."""
    full = round(_BAR * progress.percentage / 100)
    bar = "█" * full + "·" * (_BAR - full)
    print(f"progress    {bar} {progress.percentage:5.1f} %  {progress.message}", flush=True)


def _fact(event: TaskEvent) -> str:
    kind = event.WhichOneof("event") or "unknown"
    words = kind.replace("_", " ")
    match kind:
        case "attempt_started":
            return f"{words} on {event.attempt_started.device} by {event.attempt_started.worker}"
        case "attempt_failed":
            return f"{words}: {event.attempt_failed.failure.message}"
        case "task_failed":
            return f"{words}: {event.task_failed.failure.message}"
        case "checkpoint_saved":
            saved = event.checkpoint_saved.checkpoint
            return f"{words} behind step {saved.step} of {saved.of}"
        case _:
            return words


def file_of(artifact: Artifact) -> Path:
    """Return the file of an artifact that is kept in a folder."""
    return Path(unquote(urlsplit(artifact.uri).path))


def seen_in(file: Path) -> tuple[str | None, int, int]:
    """Return the format, width and height of a picture, after decoding all of it."""
    from PIL import Image  # noqa: PLC0415  # of the extra gpu, which every other command does without

    with Image.open(file) as picture:
        picture.load()
        return (picture.format, *picture.size)


def opened_image(image: Artifact) -> Path:
    """Return the image's file, after decoding all of it. Raises DemoFailed."""
    file = file_of(image)
    seen = seen_in(file)
    if seen != ("PNG", image.width, image.height) or file.stat().st_size != image.size_bytes:
        raise DemoFailed(f"{file} is {seen}, not what the result says of it")
    print(f"\nimage       {file}")
    print(f"            PNG, {image.width} x {image.height}, {image.size_bytes} bytes, opened")
    print(f"            sha256 {image.sha256}")
    return file
