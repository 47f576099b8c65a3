"""The routes of the video service: its paths, shapes and words, over the same tasks.

`/task/{id}`, `/tasks/active`, `/upload-video`, `/redis/status` and `/redis/cache/clear`.
"""

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.gateway.active_tasks import active_tasks
from callsheet.gateway.credentials import credential_of
from callsheet.gateway.plane import Plane
from callsheet.gateway.principals import require_role
from callsheet.gateway.problems import Refused
from callsheet.gateway.redis_roles import RedisRoles
from callsheet.gateway.task_views import (
    Json,
    brief_view,
    error_view,
    progress_view,
    result_view,
)
from callsheet.gateway.task_words import VIDEO, status_word
from callsheet.gateway.tasks import json_response
from callsheet.v1 import task_pb2


class VideoAliases:
    """The routes of the video service."""

    def __init__(self, plane: Plane, redis: RedisRoles) -> None:
        self._plane = plane
        self._redis = redis

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            Route("/task/{task_id}", self.get, methods=["GET"]),
            Route("/task/{task_id}", self.cancel, methods=["DELETE"]),
            Route("/tasks/active", self.active, methods=["GET"]),
            Route("/upload-video", self.upload_video, methods=["POST"]),
            Route("/redis/status", self.redis_status, methods=["GET"]),
            Route("/redis/cache/clear", self.clear_cache, methods=["POST"]),
        ]

    async def get(self, request: Request) -> Response:
        """Answer a task: processing, completed, failed or cancelled."""
        task = await (await self._plane.caller(request)).get(request.path_params["task_id"])
        return json_response(video_view(task))

    async def cancel(self, request: Request) -> Response:
        """Ask a task to stop, and answer it."""
        task = await (await self._plane.caller(request)).cancel(request.path_params["task_id"])
        return json_response(video_view(task))

    async def active(self, request: Request) -> Response:
        """Answer the tasks that have not ended, newest first."""
        found = await active_tasks(await self._plane.caller(request), request)
        tasks = [brief_view(task, VIDEO) for task in found.tasks]
        return json_response({"tasks": tasks, "count": len(tasks), "has_more": found.has_more})

    async def upload_video(self, request: Request) -> Response:
        """Refuse a video, before any of it is read.

        What is brought here is to become a task video.process: its metadata, transcript and frames.
        This build has no task type that makes them; another one's id would promise what never
        comes. Whoever brings a video for other work uploads it at /api/v1/uploads.
        """
        require_role(await self._plane.principal(credential_of(request)), "submit")
        raise Refused(
            HTTPStatus.NOT_IMPLEMENTED,
            "TASK_TYPE_UNAVAILABLE",
            "a video brought here is for video.process, and this build has no task type for it;"
            " bring videos for other work, such as edit_video, to /api/v1/uploads",
        )

    async def redis_status(self, request: Request) -> Response:
        """Answer how the Redis of each role is."""
        require_role(await self._plane.principal(credential_of(request)), "operate")
        return json_response(await self._redis.status())

    async def clear_cache(self, request: Request) -> Response:
        """Forget what can be made again, and answer how much that was."""
        require_role(await self._plane.principal(credential_of(request)), "operate")
        cleared = await self._redis.clear_cache()
        return json_response({"status": "cleared", "cleared_keys": cleared})


def video_view(task: task_pb2.Task) -> Json:
    """Return a task as the video service shows it."""
    return {
        "task_id": task.id,
        "status": status_word(task, VIDEO),
        "result": result_view(task),
        "error": error_view(task),
        "progress": progress_view(task),
    }
