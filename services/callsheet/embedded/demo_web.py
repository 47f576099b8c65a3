"""The demo's look over HTTP: the same task by REST, and how every part of the plane is."""

from dataclasses import dataclass
from typing import Any, Final, cast

import httpx

from callsheet.embedded.demo_plane import DemoFailed, DemoPlane

_SECONDS: Final = 30.0
_DONE: Final = "completed"


@dataclass(frozen=True)
class Seen:
    """What the demo saw over HTTP."""

    #: The task's status, in the words of the REST API.
    status: str
    #: How the plane is.
    health: str


def seen_over_http(plane: DemoPlane, task_id: str) -> Seen:
    """Return what REST says of the task, and the health API of the plane.

    Raises DemoFailed when the gateway does not answer as it should.
    """
    task = _answer(f"{plane.dashboard}/api/v1/tasks/{task_id}", key=plane.key)
    status = str(task.get("status"))
    if status != _DONE:
        raise DemoFailed(f"REST says that {task_id} is {status}")
    health = _answer(plane.health)
    parts = cast("dict[str, dict[str, Any]]", health["components"])
    print(f"\nREST        GET /api/v1/tasks/{task_id}: {status}")
    print(f"health      {health['status']}: {_told(parts)}")
    print(f"dashboard   {plane.dashboard}")
    return Seen(status=status, health=str(health["status"]))


def _answer(url: str, *, key: str = "") -> dict[str, Any]:
    headers = {"x-api-key": key} if key else {}
    try:
        with httpx.Client(timeout=_SECONDS, trust_env=False, headers=headers) as http:
            answer = http.get(url)
            return cast("dict[str, Any]", answer.json())
    except (httpx.HTTPError, ValueError) as error:
        raise DemoFailed(f"{url} does not answer: {error}") from error


def _told(parts: dict[str, dict[str, Any]]) -> str:
    return ", ".join(f"{name} {part['status']}" for name, part in parts.items())
