"""What every demo is told on: a plane of its own, a story, and one JSON object as its last line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final

from callsheet.brain.errors import BrainError
from callsheet.client.errors import CallsheetError
from callsheet.client.webhooks import WebhookRejected
from callsheet.embedded.demo_plane import DemoFailed, DemoPlane, demo_plane
from callsheet.runtime.logs import configure_logging
from callsheet.runtime.settings import Settings

#: The project that demos work in.
PROJECT: Final = "default"

#: Set in the environment: the plane stays up after the story, until Ctrl-C.
_KEEP: Final = "KEEP"


def run_story(
    story: Callable[[DemoPlane], Mapping[str, object]],
    settings: Settings,
    *,
    folder: str,
    variables: Mapping[str, str] | None = None,
) -> int:
    """Tell a story in a plane of its own, and return the exit code.

    *folder* is the plane's, under the state folder; *variables* are settings of it. What the story
    returns is printed as its last line; what it raises is one line on stderr.
    """
    # What the clients of the demo itself log is for people only when something is wrong.
    quiet = settings.model_copy(update={"log_level": "warning", "log_format": "console"})
    configure_logging(quiet, process="demo")
    # Models that were built once need not be built again.
    given = {"CALLSHEET_CACHE_DIR": str(settings.cache_dir), **(variables or {})}
    try:
        with demo_plane(settings.state_dir / folder, variables=given) as plane:
            print(f"dashboard   {plane.dashboard}, sign in with {plane.key}", flush=True)
            print(json.dumps(story(plane)), flush=True)
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


def _keep(plane: DemoPlane) -> None:
    """Leave the plane up until Ctrl-C. Raises DemoFailed when it ends by itself."""
    print(f"\ndashboard   {plane.dashboard}")
    print(f"sign in     {plane.key}")
    print("shell       the command `callsheet` finds the plane with")
    print(f"              export CALLSHEET_GRPC_ADDRESS={plane.grpc_address}")
    print(f"              export CALLSHEET_API_KEY={plane.key} CALLSHEET_PROJECT={PROJECT}")
    print("kept up     until Ctrl-C", flush=True)
    try:
        plane.until_ended()
    except KeyboardInterrupt:
        return
    raise DemoFailed("the plane ended; its reason stands above")
