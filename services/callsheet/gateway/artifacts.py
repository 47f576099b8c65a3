"""The artifacts of tasks: listed, served, and linked to for a while."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.artifacts.keys import fits, task_folder
from callsheet.artifacts.store import ArtifactStore
from callsheet.gateway.bodies import query_fields
from callsheet.gateway.links import PATH, Links
from callsheet.gateway.plane import Plane
from callsheet.gateway.serving_files import file_answer, not_found
from callsheet.gateway.task_views import artifact_name, artifact_view, artifacts_of
from callsheet.gateway.tasks import json_response
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.v1 import task_pb2

_OF_TASK: Final = "/api/v1/tasks/{task_id}/artifacts"


class Artifacts:
    """The routes of artifacts."""

    def __init__(self, plane: Plane, store: ArtifactStore, links: Links) -> None:
        self._plane = plane
        self._store = store
        self._links = links

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            Route(_OF_TASK, self.list, methods=["GET"]),
            Route(f"{_OF_TASK}/{{name}}", self.serve, methods=["GET"]),
            Route(f"{_OF_TASK}/{{name}}/link", self.link, methods=["POST"]),
            Route(f"{PATH}/{{key:path}}", self.serve_link, methods=["GET"]),
        ]

    async def list(self, request: Request) -> Response:
        """Answer the artifacts of a task's output."""
        task = await self._task(request)
        return json_response(
            {"artifacts": [artifact_view(task, each) for each in artifacts_of(task)]}
        )

    async def serve(self, request: Request) -> Response:
        """Answer the bytes of an artifact, or a range of them."""
        found = await self._artifact(request)
        return await file_answer(request, self._store, found.key, media_type=found.media_type)

    async def link(self, request: Request) -> Response:
        """Answer a link that opens the artifact without a key, for a while."""
        found = await self._artifact(request)
        link, expire_time = self._links.link(found.key, media_type=found.media_type)
        return json_response(
            {
                "url": f"{str(request.base_url).rstrip('/')}{link}",
                "expire_time": expire_time.isoformat(timespec="seconds").replace("+00:00", "Z"),
            }
        )

    async def serve_link(self, request: Request) -> Response:
        """Answer what a link opens."""
        query = query_fields(request)
        media_type, expires = query.text("type"), query.text("expires")
        signature = query.text("signature")
        query.text("download")
        query.done()
        key = str(request.path_params["key"])
        self._links.check(key, media_type=media_type, expires=expires, signature=signature)
        return await file_answer(request, self._store, key, media_type=media_type)

    async def _task(self, request: Request) -> task_pb2.Task:
        client = await self._plane.caller(request)
        return await client.get(request.path_params["task_id"])

    async def _artifact(self, request: Request) -> Artifact:
        """Return the artifact that the path names. Raises Refused, 404."""
        task = await self._task(request)
        name = request.path_params["name"]
        for each in artifacts_of(task):
            if artifact_name(each) == name and _is_of_project(each, task):
                return each
        if (preview := _preview(task, name)) is not None:
            return preview
        raise not_found()


def _preview(task: task_pb2.Task, name: str) -> Artifact | None:
    """Return the preview of that name; None: the task does not run, or it is no preview's name.

    The newest progress may be told to a watcher before it is kept with the task: so any picture of
    the running attempt will do.
    """
    if task.state != task_pb2.TASK_STATE_RUNNING:
        return None
    key = f"{task_folder(task.project, task.id)}/{name}"
    is_preview = name.startswith(f"{task.attempt}-") and name.endswith(".webp")
    return Artifact(key=key, media_type="image/webp") if is_preview and fits("key", key) else None


def _is_of_project(artifact: Artifact, task: task_pb2.Task) -> bool:
    """Whether the artifact is the project's: of the task, or of one whose output it reuses."""
    owner = task.reused_from or task.id
    folders = (task_folder(task.project, task.id), task_folder(task.project, owner))
    return fits("key", artifact.key) and artifact.key.startswith(tuple(f"{f}/" for f in folders))
