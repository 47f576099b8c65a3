"""The routes of background processing, `/api/background`: its paths, shapes and words."""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.client import SubmitOptions
from callsheet.gateway.active_tasks import active_tasks
from callsheet.gateway.bodies import query_fields, read_json
from callsheet.gateway.performance import performance_overview
from callsheet.gateway.plane import Plane
from callsheet.gateway.submissions import Wish, idempotency_key, submit
from callsheet.gateway.task_views import (
    Json,
    brief_view,
    error_view,
    progress_view,
    result_view,
)
from callsheet.gateway.task_words import BACKGROUND, status_word, task_type_named
from callsheet.gateway.tasks import json_response
from callsheet.gateway.upload_quota import UploadQuota
from callsheet.v1 import task_pb2

_ROOT: Final = "/api/background"

#: What each path has done, by the name that clients call it.
WORK: Final[Mapping[str, str]] = MappingProxyType(
    {
        "ai/analyze-content": "analyze_content",
        "ai/generate-embeddings-batch": "generate_embeddings_batch",
        "ai/process-with-llm": "process_with_llm",
        "ai/smart-categorization": "smart_categorization",
        "files/process-document": "process_document",
        "files/extract-pdf-text": "extract_pdf_text",
        "files/analyze-file": "analyze_file_with_ai",
        "files/batch-process": "batch_process_files",
        "media/transcribe-audio": "transcribe_audio",
        "media/process-video": "process_video",
        "media/enhance-video": "enhance_video_with_ai",
        "media/batch-transcribe": "batch_transcribe_videos",
    }
)


class BackgroundAliases:
    """The routes of background processing."""

    def __init__(self, plane: Plane, quota: UploadQuota) -> None:
        self._plane = plane
        self._quota = quota

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        task = f"{_ROOT}/tasks/{{task_id}}"
        return [
            *(Route(f"{_ROOT}/{path}", self.start, methods=["POST"]) for path in WORK),
            Route(f"{_ROOT}/status/{{task_id}}", self.get, methods=["GET"]),
            Route(f"{_ROOT}/tasks/active", self.active, methods=["GET"]),
            Route(task, self.cancel, methods=["DELETE"]),
            Route(f"{_ROOT}/performance/overview", self.performance, methods=["GET"]),
        ]

    async def start(self, request: Request) -> Response:
        """Accept the work that the path names; the body is its input."""
        client = await self._plane.caller(request)
        task_type = task_type_named(WORK[request.scope["path"].removeprefix(f"{_ROOT}/")])
        query = query_fields(request)
        options = SubmitOptions(
            project=query.text("project_id"), request_id=idempotency_key(request)
        )
        query.done()
        wish = Wish(task_type, await read_json(request), options, path="")
        handle = await submit(client, request, wish, quota=self._quota)
        return started(handle.id)

    async def get(self, request: Request) -> Response:
        """Answer where a task is, how far, and what became of it."""
        task = await (await self._plane.caller(request)).get(request.path_params["task_id"])
        return json_response(background_view(task))

    async def active(self, request: Request) -> Response:
        """Answer the tasks that have not ended, newest first."""
        found = await active_tasks(await self._plane.caller(request), request)
        tasks = [brief_view(task, BACKGROUND) for task in found.tasks]
        return json_response({"tasks": tasks, "count": len(tasks), "has_more": found.has_more})

    async def cancel(self, request: Request) -> Response:
        """Ask a task to stop, and answer it."""
        task = await (await self._plane.caller(request)).cancel(request.path_params["task_id"])
        return json_response(background_view(task))

    async def performance(self, request: Request) -> Response:
        """Answer how each queue and each task type fared of late."""
        client = await self._plane.caller(request)
        query = query_fields(request)
        window = query.word("window", ("hour", "day")) or "hour"
        query.done()
        found, queues = await asyncio.gather(client.performance(window=window), client.queues())
        return json_response(performance_overview(found, queues))


def started(task_id: str) -> Response:
    """Return what whoever started work is told: 202."""
    return json_response(
        {
            "task_id": task_id,
            "status": "started",
            "message": "Processing started in background",
            "monitor_url": f"{_ROOT}/status/{task_id}",
        },
        status=HTTPStatus.ACCEPTED,
    )


def background_view(task: task_pb2.Task) -> Json:
    """Return a task as background processing shows it."""
    return {
        "task_id": task.id,
        "status": status_word(task, BACKGROUND),
        "progress": progress_view(task),
        "result": result_view(task),
        "error": error_view(task),
    }
