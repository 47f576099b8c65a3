"""`callsheetd demo`: one image task, seen from its submission to its signed webhook."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from queue import Empty
from typing import Final
from urllib.parse import unquote, urlsplit

from callsheet.brain.errors import BrainError
from callsheet.client import TaskClient, TaskHandle
from callsheet.client.errors import CallsheetError
from callsheet.client.webhooks import Webhook, WebhookRejected, verify
from callsheet.embedded.demo_brain import OTHERS, QUESTION, Recollection, recollection
from callsheet.embedded.demo_plane import DemoFailed, DemoPlane, demo_plane
from callsheet.embedded.demo_receiver import Received, Receiver
from callsheet.embedded.demo_web import Seen, seen_over_http
from callsheet.runtime.logs import configure_logging
from callsheet.runtime.settings import Settings
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1.task_event_pb2 import TaskEvent
from callsheet.v1.task_pb2 import Progress, Task, TaskState

_PROJECT: Final = "default"
_TASK: Final = timedelta(minutes=10)
_WEBHOOK: Final = timedelta(seconds=60)
_BAR: Final = 24
#: Set in the environment: the plane stays up after the story, until Ctrl-C.
_KEEP: Final = "KEEP"


@dataclass(frozen=True)
class Story:
    """What the demo saw."""

    task: Task
    image: Artifact
    file: Path
    webhook: Webhook
    submit_to_webhook: timedelta
    recollection: Recollection | None
    seen: Seen

    def summary(self) -> dict[str, object]:
        """Return the demo's last line."""
        return {
            "task_id": self.task.id,
            "state": TaskState.Name(self.task.state).removeprefix("TASK_STATE_"),
            "artifact": str(self.file),
            "sha256": self.image.sha256,
            "webhook_verified": True,
            "rest_status": self.seen.status,
            "health": self.seen.health,
            "submit_to_start_ms": _between(self.task, "start_time"),
            "submit_to_webhook_ms": round(self.submit_to_webhook / timedelta(milliseconds=1), 1),
            "brain_found": self.recollection is not None,
            "brain_rank": self.recollection.rank if self.recollection is not None else None,
        }


def run_demo(settings: Settings) -> int:
    """Run the demo in a plane of its own under the state folder; return the exit code."""
    # What the clients of the demo itself log is for people only when something is wrong.
    quiet = settings.model_copy(update={"log_level": "warning", "log_format": "console"})
    configure_logging(quiet, process="demo")
    try:
        with demo_plane(settings.state_dir / "demo") as plane:
            print(f"dashboard   {plane.dashboard}, sign in with {plane.key}", flush=True)
            print(json.dumps(_story(plane).summary()), flush=True)
            if os.environ.get(_KEEP, "0") not in {"", "0"}:
                _keep(plane)
    except (
        DemoFailed,
        CallsheetError,
        WebhookRejected,
        BrainError,
        subprocess.SubprocessError,
    ) as failure:
        print(f"callsheetd: {failure}", file=sys.stderr)
        return 1
    return 0


def _story(plane: DemoPlane) -> Story:
    with Receiver() as receiver:
        shown = plane.asked("webhooks", "secret", "show", "--project", _PROJECT)
        with TaskClient(plane.grpc_address, key=plane.key, project=_PROJECT) as client:
            return _told(client, receiver, secret=str(shown["secret"]), plane=plane)


def _keep(plane: DemoPlane) -> None:
    """Leave the plane up until Ctrl-C. Raises DemoFailed when it ends by itself."""
    print(f"\ndashboard   {plane.dashboard}")
    print(f"sign in     {plane.key}")
    print("shell       the command `callsheet` finds the plane with")
    print(f"              export CALLSHEET_GRPC_ADDRESS={plane.grpc_address}")
    print(f"              export CALLSHEET_API_KEY={plane.key} CALLSHEET_PROJECT={_PROJECT}")
    print("kept up     until Ctrl-C", flush=True)
    try:
        plane.until_ended()
    except KeyboardInterrupt:
        return
    raise DemoFailed("the plane ended; its reason stands above")


def _told(client: TaskClient, receiver: Receiver, *, secret: str, plane: DemoPlane) -> Story:
    submitted = time.monotonic()
    handle = client.submit(
        GenerateImageInput(prompt="a lighthouse at dusk, wide shot", steps=20, seed=7),
        output=GenerateImageOutput,
        callback_url=receiver.url,
        metadata={"scene": "12A"},
    )
    print(f"\nsubmitted   task {handle.id}, a generate_image of project {_PROJECT}")
    _show_facts(handle)
    task = handle.wait(timeout=_TASK)
    # Signals may be missed; the newest progress is kept with its task.
    if task.progress.percentage != 100:
        raise DemoFailed(f"progress ended at {task.progress.percentage} %")
    _show_progress(task.progress)
    image = handle.result().images[0]
    file = _opened(image)
    received = _received(receiver)
    webhook = verify(received.body, received.headers, secret)
    if webhook.task_id != task.id or webhook.status != "completed":
        raise DemoFailed(f"the webhook tells of {webhook.task_id}, which is {webhook.status}")
    print(f"\nwebhook     {received.headers['webhook-id']}, its signature verified")
    print(json.dumps(json.loads(received.body), indent=2))
    taken = timedelta(seconds=received.monotonic_seconds - submitted)
    _submit_others(client)
    remembered = _remembered(plane, task)
    seen = seen_over_http(plane, task.id)
    story = Story(task, image, file, webhook, taken, remembered, seen)
    _show_times(story)
    return story


def _show_facts(handle: TaskHandle[GenerateImageOutput]) -> None:
    """Print what happens to the task, as it happens."""
    for event in handle.watch(timeout=_TASK):
        if event.HasField("progress"):
            if event.progress.percentage < 100:
                _show_progress(event.progress)
        else:
            print(f"fact {event.sequence:<6} {_fact(event)}")


def _show_progress(progress: Progress) -> None:
    full = round(_BAR * progress.percentage / 100)
    bar = "█" * full + "·" * (_BAR - full)
    print(f"progress    {bar} {progress.percentage:5.1f} %  {progress.message}")


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
        case _:
            return words


def _opened(image: Artifact) -> Path:
    """Return the image's file, after decoding all of it."""
    from PIL import Image  # noqa: PLC0415  # of the extra gpu, which every other command does without

    file = Path(unquote(urlsplit(image.uri).path))
    with Image.open(file) as picture:
        picture.load()
        seen = (picture.format, *picture.size)
    if seen != ("PNG", image.width, image.height) or file.stat().st_size != image.size_bytes:
        raise DemoFailed(f"{file} is {seen}, not what the result says of it")
    print(f"\nimage       {file}")
    print(f"            PNG, {image.width} x {image.height}, {image.size_bytes} bytes, opened")
    print(f"            sha256 {image.sha256}")
    return file


def _received(receiver: Receiver) -> Received:
    try:
        return receiver.received.get(timeout=_WEBHOOK.total_seconds())
    except Empty:
        raise DemoFailed(f"no webhook came within {_WEBHOOK}") from None


def _submit_others(client: TaskClient) -> None:
    others = [client.submit(PingInput(echo=words), output=PingOutput) for words in OTHERS]
    for other in others:
        other.wait(timeout=_TASK)


def _remembered(plane: DemoPlane, task: Task) -> Recollection | None:
    """Look the task up in the brain, and show what is found."""
    url = plane.ready["brain_ws_url"]
    if url is None:
        print("\nbrain       there is none on this machine")
        return None
    found = recollection(plane.state_dir, url=str(url), project=_PROJECT, task_id=task.id)
    if found is None:
        raise DemoFailed(f"the brain does not find {task.id} by “{QUESTION}”")
    print(f"\nbrain       asked for “{QUESTION}”")
    print(f"            place {found.rank} of {found.among}: “{found.memory.text}”")
    print(f"            {found.memory.status}, {', '.join(found.memory.artifacts)}")
    return found


def _show_times(story: Story) -> None:
    print("\ntime line   submit        0.0 ms")
    print(f"            start  {_between(story.task, 'start_time'):10.1f} ms")
    print(f"            done   {_between(story.task, 'end_time'):10.1f} ms")
    print(f"            webhook{story.submit_to_webhook / timedelta(milliseconds=1):10.1f} ms\n")


def _between(task: Task, field: str) -> float:
    """Return the milliseconds from the task's acceptance to another of its times."""
    moment = getattr(task, field).ToMicroseconds() - task.create_time.ToMicroseconds()
    return round(moment / 1000, 1)
