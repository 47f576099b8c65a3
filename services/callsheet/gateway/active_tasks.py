"""The tasks that have not ended: those that wait, and those that run."""

import asyncio
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from callsheet.client import AsyncTaskClient
from callsheet.gateway.bodies import query_fields
from callsheet.gateway.plane import TIMEOUT
from callsheet.v1 import task_pb2, task_service_pb2

#: Tasks of one answer.
MOST: Final = 200


@dataclass(frozen=True)
class ActiveTasks:
    """Tasks that have not ended, newest first."""

    tasks: list[task_pb2.Task]
    #: Whether there are more, older ones.
    has_more: bool


async def active_tasks(client: AsyncTaskClient, request: Request) -> ActiveTasks:
    """Return the active tasks of the project in the query, or of the key's only one.

    Raises CallError; Refused, 400, for a query that nobody knows.
    """
    query = query_fields(request)
    project = query.text("project_id")
    limit = query.number("limit", least=1, most=MOST) or MOST
    query.done()
    pages = await asyncio.gather(
        *(
            client.connection.call(
                client.connection.tasks.ListTasks,
                task_service_pb2.ListTasksRequest(project=project, state=state, page_size=limit),
                timeout=TIMEOUT,
            )
            for state in (task_pb2.TASK_STATE_PENDING, task_pb2.TASK_STATE_RUNNING)
        )
    )
    # One may have started between the two questions.
    found = {task.id: task for page in pages for task in page.tasks}
    newest = sorted(found.values(), key=lambda task: task.create_time.ToNanoseconds(), reverse=True)
    has_more = len(newest) > limit or any(page.next_page_token for page in pages)
    return ActiveTasks(newest[:limit], has_more)
