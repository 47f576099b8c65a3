"""Tasks over REST: submitted, read, listed, cancelled and retried, in the platform's words."""

from uuid import uuid4

import pytest

from tests.support.gateways import RunningGateway
from tests.support.work import succeeded

SUBMIT = "/api/v1/tasks/submit"


async def test_a_submission_is_accepted_as_the_platform_makes_it(gateway: RunningGateway) -> None:
    answer = await gateway.http.post(
        SUBMIT,
        json={
            "project_id": "default",
            "task_type": "image_generation",
            "task_data": {"prompt": "a lighthouse", "width": 64, "negativePrompt": "fog"},
            "callback_url": "https://example.com/api/webhooks/task-complete",
            "metadata": {"userId": "u-1", "testResultId": "t-1"},
        },
    )
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert told["status"] == "queued"
    assert told["outcome"] == "created"
    assert answer.headers["location"] == f"/api/v1/tasks/{told['task_id']}"
    found = (await gateway.http.get(answer.headers["location"])).json()
    assert found["task_type"] == "generate_image"
    assert found["task_data"] == {
        "prompt": "a lighthouse",
        "width": 64,
        "negative_prompt": "fog",
    }
    assert found["metadata"] == {"testResultId": "t-1", "userId": "u-1"}
    assert found["state"] == "PENDING"
    assert found["wait_reason"] == "NO_WORKER"


async def test_a_task_that_succeeded_is_told_as_in_a_webhook(gateway: RunningGateway) -> None:
    task_id = await gateway.submit("ping", echo="hello")
    await succeeded(gateway.plane.cell, task_id)
    found = (await gateway.http.get(f"/api/v1/tasks/{task_id}")).json()
    assert found["status"] == "completed"
    assert found["result"]["media_url"] is None
    assert found["result"]["metadata"]["output_data"] == {"echo": "done"}
    assert found["error"] is None


async def test_a_repeated_request_id_answers_the_same_task(gateway: RunningGateway) -> None:
    body = {"task_type": "ping", "task_data": {"echo": "x"}}
    headers = {"idempotency-key": "once"}
    first = await gateway.http.post(SUBMIT, json=body, headers=headers)
    again = await gateway.http.post(SUBMIT, json=body, headers=headers)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["task_id"] == first.json()["task_id"]
    assert again.json()["outcome"] == "repeated"


async def test_a_list_is_read_page_after_page(gateway: RunningGateway) -> None:
    made = [await gateway.submit("ping", echo=str(number)) for number in range(3)]
    first = (await gateway.http.get("/api/v1/tasks", params={"page_size": 2})).json()
    rest = await gateway.http.get(
        "/api/v1/tasks", params={"page_size": 2, "page_token": first["next_page_token"]}
    )
    found = [task["task_id"] for task in (*first["tasks"], *rest.json()["tasks"])]
    assert found == made[::-1]
    assert rest.json()["next_page_token"] is None


@pytest.mark.parametrize("query", [{"status": "completed"}, {"state": "SUCCEEDED"}])
async def test_a_list_is_filtered_by_the_words_of_either_side(
    gateway: RunningGateway, query: dict[str, str]
) -> None:
    task_id = await gateway.submit()
    await gateway.submit()
    await succeeded(gateway.plane.cell, task_id)
    found = (await gateway.http.get("/api/v1/tasks", params=query)).json()["tasks"]
    assert [(task["task_id"], task["status"]) for task in found] == [(task_id, "completed")]


async def test_a_cancelled_task_has_failed_with_its_reason(gateway: RunningGateway) -> None:
    task_id = await gateway.submit()
    answer = await gateway.http.post(f"/api/v1/tasks/{task_id}/cancel", json={"reason": "enough"})
    assert answer.json()["status"] == "failed"
    assert answer.json()["error"] == {
        "reason": "CANCELLED",
        "message": "the task was cancelled: enough",
        "retryable": False,
    }
    # And a cancelled one can be submitted once more
    again = await gateway.http.post(f"/api/v1/tasks/{task_id}/retry")
    assert again.status_code == 202
    assert again.json()["retry_of"] == task_id
    assert again.json()["status"] == "queued"


async def test_an_unknown_task_and_a_foreign_one_are_not_found(gateway: RunningGateway) -> None:
    task_id = await gateway.submit()
    stranger = await gateway.new_key(projects=frozenset({"elsewhere"}))
    async with gateway.client(stranger) as other:
        answers = [
            await gateway.http.get(f"/api/v1/tasks/{uuid4()}"),
            await other.get(f"/api/v1/tasks/{task_id}"),
            await other.post(f"/api/v1/tasks/{task_id}/cancel"),
        ]
    assert {(each.status_code, each.json()["reason"]) for each in answers} == {
        (404, "TASK_NOT_FOUND")
    }
