"""`callsheetd demo`: one image task, seen from its submission to its signed webhook."""

import json
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from queue import Empty
from typing import Final

from callsheet.client import TaskClient
from callsheet.client.webhooks import Webhook, verify
from callsheet.embedded.demo_brain import OTHERS, QUESTION, Recollection, recollection
from callsheet.embedded.demo_plane import DemoFailed, DemoPlane
from callsheet.embedded.demo_receiver import Received, Receiver
from callsheet.embedded.demo_stage import PROJECT, run_story
from callsheet.embedded.demo_telling import opened_image, tell, tell_progress
from callsheet.embedded.demo_web import Seen, seen_over_http
from callsheet.runtime.settings import Settings
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1.task_pb2 import Task, TaskState

_TASK: Final = timedelta(minutes=10)
_WEBHOOK: Final = timedelta(seconds=60)


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
    return run_story(lambda plane: _story(plane).summary(), settings, folder="demo")


def _story(plane: DemoPlane) -> Story:
    with Receiver() as receiver:
        shown = plane.asked("webhooks", "secret", "show", "--project", PROJECT)
        with TaskClient(plane.grpc_address, key=plane.key, project=PROJECT) as client:
            return _told(client, receiver, secret=str(shown["secret"]), plane=plane)


def _told(client: TaskClient, receiver: Receiver, *, secret: str, plane: DemoPlane) -> Story:
    submitted = time.monotonic()
    handle = client.submit(
        GenerateImageInput(prompt="a lighthouse at dusk, wide shot", steps=20, seed=7),
        output=GenerateImageOutput,
        callback_url=receiver.url,
        metadata={"scene": "12A"},
    )
    print(f"\nsubmitted   task {handle.id}, a generate_image of project {PROJECT}")
    for event in handle.watch(timeout=_TASK):
        tell(event)
    task = handle.wait(timeout=_TASK)
    # Signals may be missed; the newest progress is kept with its task.
    if task.progress.percentage != 100:
        raise DemoFailed(f"progress ended at {task.progress.percentage} %")
    tell_progress(task.progress)
    image = handle.result().images[0]
    file = opened_image(image)
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
    found = recollection(plane.state_dir, url=str(url), project=PROJECT, task_id=task.id)
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
