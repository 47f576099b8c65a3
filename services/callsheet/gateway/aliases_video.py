"""The routes of the video service: its paths, shapes and words, over the same tasks.

`/task/{id}`, `/tasks/active`, `/upload-video`, `/redis/status` and `/redis/cache/clear`.
"""

from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.client import SubmitOptions
from callsheet.gateway.active_tasks import active_tasks
from callsheet.gateway.bodies import query_fields
from callsheet.gateway.credentials import credential_of
from callsheet.gateway.media_kinds import VIDEO_KINDS
from callsheet.gateway.plane import Plane
from callsheet.gateway.principals import project_of, require_role
from callsheet.gateway.redis_roles import RedisRoles
from callsheet.gateway.submissions import Wish, idempotency_key, submit
from callsheet.gateway.task_views import (
    Json,
    brief_view,
    error_view,
    progress_view,
    result_view,
)
from callsheet.gateway.task_words import VIDEO, status_word, task_type_named
from callsheet.gateway.tasks import json_response
from callsheet.gateway.upload_quota import UploadQuota
from callsheet.gateway.uploads import Uploads
from callsheet.v1 import task_pb2

#: What a video that is brought is for, as the video service calls it.
_PROCESS: Final = "video.process"


class VideoAliases:
    """The routes of the video service."""

    def __init__(
        self, plane: Plane, redis: RedisRoles, uploads: Uploads, quota: UploadQuota
    ) -> None:
        self._plane = plane
        self._redis = redis
        self._uploads = uploads
        self._quota = quota

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
        """Keep a video as an upload, have it processed, and answer the task: 202.

        The body is the video, or a form with the field file, as at /api/v1/uploads. A video whose
        task is refused stays an upload, and may be named by another task.
        """
        credential = credential_of(request)
        principal = await self._plane.principal(credential)
        query = query_fields(request)
        asked = query.text("project_id")
        query.done()
        require_role(principal, "submit")
        project = project_of(principal, asked)
        options = SubmitOptions(project=project, request_id=idempotency_key(request))
        task_type = task_type_named(_PROCESS)
        upload = await self._uploads.brought(request, project, among=VIDEO_KINDS)
        wish = Wish(task_type, {"video": {"uri": upload.stored.uri}}, options, path="")
        client = self._plane.client(credential)
        handle = await submit(client, request, wish, quota=self._quota)
        return json_response(
            {"task_id": handle.id, "status": status_word(handle.task, VIDEO)},
            status=HTTPStatus.ACCEPTED,
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
