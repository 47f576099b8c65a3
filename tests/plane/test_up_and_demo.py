"""`callsheetd up` and `callsheetd demo`, as a newcomer runs them."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from tests.support.any_ports import ANY_PORTS

CALLSHEETD = (sys.executable, "-m", "callsheet.embedded.main")
CALLSHEET = (sys.executable, "-m", "callsheet.client.cli")
SECONDS = 110

pytestmark = pytest.mark.timeout(240)  # two starts of every process, torch imported in each


@contextmanager
def up(environment: Mapping[str, str]) -> Generator[dict[str, Any]]:
    """A plane that is ready; yields what it said of itself."""
    with subprocess.Popen(
        [*CALLSHEETD, "up", "--json"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(SECONDS) == 0


def run(
    *command: str, environment: Mapping[str, str], seconds: float = SECONDS
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=seconds
    )


def shown(file: str) -> tuple[list[str], int]:
    """Return what streams a video has, and how many pictures are decoded from it."""
    with av.open(file, "r") as container:
        kinds = [stream.type for stream in container.streams]
        return kinds, sum(1 for _ in container.decode(container.streams.video[0]))


@pytest.fixture
def environment(tmp_path: Path, cache_dir: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CALLSHEET_STATE_DIR": str(tmp_path),
        "CALLSHEET_CACHE_DIR": str(cache_dir),
        **ANY_PORTS,
        "CALLSHEET_DEVICE": "cpu",
    }


def test_a_second_start_finds_everything_again(environment: dict[str, str]) -> None:
    # Given a task that was run from the command line
    with up(environment) as first:
        client = {
            **environment,
            "CALLSHEET_GRPC_ADDRESS": first["grpc_address"],
            "CALLSHEET_API_KEY": first["key"],
        }
        command = ("submit", "generate_image", "--prompt", "a kite", "--steps", "2", "--watch")
        done = run(*CALLSHEET, *command, "--project", "default", "--json", environment=client)
        assert done.returncode == 0, done.stderr
        task = json.loads(done.stdout.splitlines()[-1])
        assert task["state"] == "TASK_STATE_SUCCEEDED"
    # When everything is stopped and started again
    with up(environment) as second:
        client["CALLSHEET_GRPC_ADDRESS"] = second["grpc_address"]
        # Then the key, the task and its image are as they were
        assert second["key"] == first["key"]
        again = run(*CALLSHEET, "get", task["id"], "--json", environment=client)
        assert json.loads(again.stdout)["output"] == task["output"]
        with Image.open(task["output"]["images"][0]["uri"].removeprefix("file://")) as image:
            image.load()
            assert image.size == (64, 64)


def test_the_demo_tells_one_task_from_submit_to_signed_webhook(
    environment: dict[str, str],
) -> None:
    done = run(*CALLSHEETD, "demo", environment=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any("100.0 %" in line for line in lines)
    summary = json.loads(lines[-1])
    assert set(summary) == {
        "task_id",
        "state",
        "artifact",
        "sha256",
        "webhook_verified",
        "rest_status",
        "health",
        "submit_to_start_ms",
        "submit_to_webhook_ms",
        "brain_found",
        "brain_rank",
    }
    assert (summary["state"], summary["webhook_verified"]) == ("SUCCEEDED", True)
    # And REST says the same, at the address that was printed before anything else.
    assert summary["rest_status"] == "completed"
    assert re.search(r"^dashboard   http://127\.0\.0\.1:\d+, sign in", done.stdout, re.MULTILINE)
    # And its task is found again in the brain, by other words, before all others.
    assert (summary["brain_found"], summary["brain_rank"]) == (True, 1)
    with Image.open(summary["artifact"]) as image:
        image.load()
        assert image.format == "PNG"


def test_the_media_demo_makes_a_film_whose_video_survives_its_runner(
    environment: dict[str, str],
) -> None:
    done = run(*CALLSHEETD, "demo-media", environment=environment, seconds=2 * SECONDS)
    assert done.returncode == 0, done.stderr
    # Given that what rendered the video was killed, once, with a part of it done
    assert (
        len(re.findall(r"^killed      runner \d+, with signal 9$", done.stdout, re.MULTILINE)) == 1
    )
    assert re.search(r"^fact \d+ +attempt failed: ", done.stdout, re.MULTILINE)
    assert re.search(r"^preview     WebP, 256 x \d+, \d+ bytes$", done.stdout, re.MULTILINE)
    # When all is done, then the last line names what there is
    summary = json.loads(done.stdout.splitlines()[-1])
    assert set(summary) == {"image", "video", "audio", "film", "previews", "resumed"}
    assert summary["resumed"] is True
    assert summary["previews"] > 0
    # And the film shows the video's pictures, with the sound beside them
    with Image.open(summary["image"]) as image:
        image.load()
        assert image.size == (192, 128)
    with av.open(summary["audio"], "r") as audio:
        assert [stream.type for stream in audio.streams] == ["audio"]
    assert shown(summary["video"]) == (["video"], 25)
    assert shown(summary["film"]) == (["video", "audio"], 25)
