"""`callsheetd demo-media`: a small film, whose video survives the death of what renders it."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import psutil
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from callsheet.client import TaskClient, TaskHandle
from callsheet.embedded.demo_plane import DemoFailed, DemoPlane
from callsheet.embedded.demo_stage import PROJECT, run_story
from callsheet.embedded.demo_telling import file_of, opened_image, seen_in, tell
from callsheet.embedded.module_command import module_command
from callsheet.runtime.settings import Settings
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.edit_video_pb2 import (
    EditVideoInput,
    EditVideoOutput,
    Soundtrack,
    VideoClip,
)
from callsheet.tasks.v1.generate_audio_pb2 import GenerateAudioInput, GenerateAudioOutput
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.generate_video_pb2 import GenerateVideoInput, GenerateVideoOutput
from callsheet.tasks.v1.media_pb2 import MediaReference
from callsheet.v1.task_event_pb2 import TaskEvent
from callsheet.v1.task_pb2 import FAILURE_REASON_WORKER_LOST

_TASK: Final = timedelta(minutes=10)
_LOOK_SECONDS: Final = 60
_RUNNER: Final = "callsheet.runner"
#: Often enough that the video has one long before it is done.
_VARIABLES: Final = {"CALLSHEET_CHECKPOINT_SECONDS": "0.2"}
_PROMPT: Final = "a lighthouse at dusk, waves roll against the rocks"
_SEED: Final = 7
_WIDTH, _HEIGHT = 192, 128
#: As many steps as there may be: the video is still being made when its runner is killed.
_STEPS: Final = 150
_FRAMES: Final = 25
_FRAME_RATE: Final = 25
_SOUND: Final = timedelta(seconds=1)

Output = TypeVar("Output", bound=Message)


@dataclass
class _Seen:
    """What was seen of a task on its way."""

    previews: set[str] = field(default_factory=set[str])
    """The previews that were opened, by key: progress tells of the newest one again and again."""


@dataclass
class _Killing:
    """What is known of a task whose runner is killed once."""

    attempt: int = 0
    """In which attempt it was killed. Zero: it was not yet."""
    was_lost: bool = False
    """Whether the plane took note of it."""
    left_behind: int = 0
    """Behind which step the killed attempt left its state."""
    gone_on_behind: int = 0
    """Behind which step the attempt after it saved its first. Zero: it saved none."""

    @property
    def is_resumed(self) -> bool:
        """Whether the work went on where it was: nothing before that was done again."""
        return self.was_lost and self.gone_on_behind > self.left_behind > 0


def run_media_demo(settings: Settings) -> int:
    """Make a film in a plane of the demo's own; return the exit code."""
    return run_story(_story, settings, folder="demo-media", variables=_VARIABLES)


def _story(plane: DemoPlane) -> Mapping[str, object]:
    with TaskClient(plane.grpc_address, key=plane.key, project=PROJECT) as client:
        seen, killing = _Seen(), _Killing()
        image = _image(client, seen)
        image_file = opened_image(image)
        video = _video(client, image, plane=plane, seen=seen, killing=killing)
        video_file = _opened_video(video, sound=None)
        audio = _audio(client)
        audio_file = _opened_audio(audio)
        film = _film(client, video=video, audio=audio)
        film_file = _opened_video(film, sound=audio)
    if not seen.previews:
        raise DemoFailed("no preview was shown on the way")
    return {
        "image": str(image_file),
        "video": str(video_file),
        "audio": str(audio_file),
        "film": str(film_file),
        "previews": len(seen.previews),
        "resumed": killing.is_resumed,
    }


def _image(client: TaskClient, seen: _Seen) -> Artifact:
    handle = client.submit(
        GenerateImageInput(
            prompt=_PROMPT,
            width=_WIDTH,
            height=_HEIGHT,
            steps=20,
            seed=_SEED,
            preview_every_steps=5,
        ),
        output=GenerateImageOutput,
    )
    for event in _events(handle, "generate_image"):
        _tell(event, seen)
    return handle.result().images[0]


def _video(
    client: TaskClient, image: Artifact, *, plane: DemoPlane, seen: _Seen, killing: _Killing
) -> Artifact:
    """Make a video that begins with the image; kill what renders it, once, on the way."""
    handle = client.submit(
        GenerateVideoInput(
            prompt=_PROMPT,
            image=MediaReference(uri=image.uri),
            model="tiny-ltx",
            width=_WIDTH,
            height=_HEIGHT,
            frames=_FRAMES,
            frame_rate=_FRAME_RATE,
            steps=_STEPS,
            seed=_SEED,
            preview_every_steps=10,
        ),
        output=GenerateVideoOutput,
    )
    for event in _events(handle, "generate_video"):
        _tell(event, seen)
        _note(event, killing)
        if killing.left_behind and not killing.attempt:
            killing.attempt = event.checkpoint_saved.attempt
            _kill_runner(plane)
    output = handle.result()
    if not killing.attempt:
        raise DemoFailed("the video was done before anything of it was saved")
    if not killing.is_resumed:
        raise DemoFailed(
            f"the video was not gone on with behind step {killing.left_behind}, where it was"
        )
    print(f"\nresumed     behind step {killing.left_behind} of {_STEPS}, by another attempt")
    return output.video


def _note(event: TaskEvent, killing: _Killing) -> None:
    """Take note of what bears on the killing."""
    match event.WhichOneof("event"):
        case "checkpoint_saved":
            saved = event.checkpoint_saved
            if killing.attempt in {0, saved.attempt}:
                # Also one that was on its way when the runner died.
                killing.left_behind = saved.checkpoint.step
            elif not killing.gone_on_behind:
                killing.gone_on_behind = saved.checkpoint.step
        case "attempt_failed":
            reason = event.attempt_failed.failure.reason
            killing.was_lost |= reason == FAILURE_REASON_WORKER_LOST
        case _:
            pass


def _kill_runner(plane: DemoPlane) -> None:
    """Kill the process that renders, as the kernel does when memory is out."""
    try:
        children = psutil.Process(plane.worker_pid).children()
        runners = [child for child in children if _RUNNER in child.cmdline()]
        if not runners:
            raise DemoFailed("the worker has no runner")
        # Work without a device has a runner of its own, which loads no models.
        rendering = max(runners, key=lambda runner: runner.memory_info().rss)
        rendering.kill()
    except psutil.Error as error:
        raise DemoFailed(f"the runner is not found: {error}") from error
    print(f"killed      runner {rendering.pid}, with signal 9", flush=True)


def _audio(client: TaskClient) -> Artifact:
    duration = Duration()
    duration.FromTimedelta(_SOUND)
    handle = client.submit(
        GenerateAudioInput(prompt="waves and a distant foghorn", duration=duration, seed=_SEED),
        output=GenerateAudioOutput,
    )
    for event in _events(handle, "generate_audio"):
        tell(event)
    return handle.result().audio


def _film(client: TaskClient, *, video: Artifact, audio: Artifact) -> Artifact:
    handle = client.submit(
        EditVideoInput(
            clips=[VideoClip(video=MediaReference(uri=video.uri))],
            soundtrack=Soundtrack(audio=MediaReference(uri=audio.uri)),
        ),
        output=EditVideoOutput,
    )
    for event in _events(handle, "edit_video"):
        tell(event)
    return handle.result().video


def _events(handle: TaskHandle[Output], task_type: str) -> Iterator[TaskEvent]:
    print(f"\nsubmitted   task {handle.id}, {task_type} of project {PROJECT}")
    return handle.watch(timeout=_TASK)


def _tell(event: TaskEvent, seen: _Seen) -> None:
    """Print what happened, and the preview that came with it."""
    tell(event)
    preview = event.progress.preview
    if preview.key and preview.key not in seen.previews and _opened_preview(preview):
        seen.previews.add(preview.key)


def _opened_preview(preview: Artifact) -> bool:
    """Print what a preview is, after decoding it. False: a newer one is there already."""
    try:
        format_and_size = seen_in(file_of(preview))
    except FileNotFoundError:
        return False
    if format_and_size != ("WEBP", preview.width, preview.height):
        raise DemoFailed(f"the preview {preview.key} is {format_and_size}")
    print(f"preview     WebP, {preview.width} x {preview.height}, {preview.size_bytes} bytes")
    return True


def _opened_video(video: Artifact, *, sound: Artifact | None) -> Path:
    """Return the video's file, after decoding all of it; with the sound of an artifact, or none."""
    file = file_of(video)
    look = _look(file)
    pictures, heard = look["pictures"], look["sound"]
    expected = {"codec": "h264", "width": _WIDTH, "height": _HEIGHT, "frames": _FRAMES}
    if pictures != expected:
        raise DemoFailed(f"{file} shows {pictures}, and not {expected}")
    if (heard is None) is not (sound is None) or (heard is not None and heard["codec"] != "aac"):
        raise DemoFailed(f"the sound of {file} is {heard}")
    print(f"\n{'video' if sound is None else 'film':<12}{file}")
    print(f"            H.264, {_FRAMES} pictures of {_WIDTH} x {_HEIGHT}, all decoded")
    if heard is not None:
        seconds = _seconds(heard)
        if abs(seconds - _FRAMES / _FRAME_RATE) > 1 / 8:
            raise DemoFailed(f"the sound of {file} plays {seconds:.2f} s")
        print(f"            AAC, {heard['channels']} channels, {seconds:.2f} s, all decoded")
    return file


def _opened_audio(audio: Artifact) -> Path:
    """Return the sound's file, after decoding all of it."""
    file = file_of(audio)
    look = _look(file)
    heard = look["sound"]
    if look["pictures"] is not None or heard is None or _seconds(heard) != _SOUND.total_seconds():
        raise DemoFailed(f"{file} is {look}, not {_SOUND} of sound")
    print(f"\naudio       {file}")
    print(f"            {heard['codec']}, {heard['channels']} channels, {_seconds(heard):.2f} s")
    return file


def _seconds(sound: Mapping[str, Any]) -> float:
    return sound["samples"] / sound["sample_rate"]


def _look(file: Path) -> Mapping[str, Any]:
    """Return what a process of the media's own finds in a file. Raises SubprocessError."""
    done = subprocess.run(
        module_command("media.looking", str(file)),
        stdout=subprocess.PIPE,
        check=True,
        timeout=_LOOK_SECONDS,
    )
    return cast("dict[str, Any]", json.loads(done.stdout))
