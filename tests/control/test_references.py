"""Files that a submission refers to: its own project's, wherever the contract lets one be named."""

import pytest
from grpc import StatusCode

from callsheet.control.references import references_in
from callsheet.v1.task_service_pb2 import SubmitTaskRequest, SubmitTasksRequest
from tests.support.contract import input_fields, put, request_of
from tests.support.controls import Client, Plane, refusal

CALL = "TaskService/SubmitTask"
OURS, THEIRS = "ours", "theirs"
PATHS = [each.path for each in input_fields(CALL) if each.owner == "MediaReference.uri"]


def key(project: str, folder: str) -> str:
    """Return the key of a file of the project."""
    return f"projects/{project}/{folder}{'0' * 32}.png"


FOREIGN = {
    "an upload": key(THEIRS, "uploads/"),
    "an artifact": key(THEIRS, "tasks/6e81bb06-20b2-4bc5-b95c-46b8674b3e43/1-"),
    "of a project that is not there": key("nobody", "uploads/"),
    "behind a key of ours": f"{key(OURS, 'uploads/')}/{key(THEIRS, 'uploads/')}",
    "of a project that begins like ours": key(f"{OURS}-too", "uploads/"),
}


def request(path: str, uri: str) -> SubmitTaskRequest:
    """Return a submission that names the file there, and files of our own everywhere else."""
    made = request_of(CALL, task_id="")
    assert isinstance(made, SubmitTaskRequest)
    put(made, path, uri)
    for _, other in references_in(made.spec, path="spec"):
        other.uri = key(OURS, "uploads/")
    put(made, path, uri)
    return made


@pytest.fixture
async def ours(plane: Plane) -> Client:
    return await plane.newcomer(projects=frozenset({OURS}))


def test_there_are_references() -> None:
    assert "spec.edit_image.image.uri" in PATHS
    assert "spec.edit_audio.tracks[0].audio.uri" in PATHS


async def test_a_file_of_another_project_is_refused_wherever_it_is_named(ours: Client) -> None:
    """Whether there is such a project, such a task or such a file makes no difference."""
    for path in PATHS:
        for label, uri in FOREIGN.items():
            call = ours.tasks.SubmitTask(request(path, uri), metadata=ours.metadata)
            told = await refusal(call)
            assert told.code is StatusCode.INVALID_ARGUMENT, label
            assert told.fields == (path,), label
            assert THEIRS not in told.message, label


@pytest.mark.parametrize("folder", ["uploads/", "tasks/6e81bb06-20b2-4bc5-b95c-46b8674b3e43/3-"])
async def test_a_file_of_the_project_is_taken_by_its_key_or_behind_any_address(
    ours: Client, folder: str
) -> None:
    for uri in (key(OURS, folder), f"https://media.example.com/x/{key(OURS, folder)}"):
        for path in PATHS[:2]:
            await ours.tasks.SubmitTask(request(path, uri), metadata=ours.metadata)


async def test_each_submission_of_a_batch_is_refused_on_its_own(ours: Client) -> None:
    batch = SubmitTasksRequest(
        requests=[request(PATHS[0], key(name, "uploads/")) for name in (THEIRS, OURS)]
    )
    answer = await ours.tasks.SubmitTasks(batch, metadata=ours.metadata)
    assert [each.field for each in answer.results[0].refusal.violations] == [PATHS[0]]
    assert answer.results[1].HasField("task")


async def test_the_project_that_is_meant_is_the_one_that_is_named(plane: Plane) -> None:
    both = await plane.newcomer(projects=frozenset({OURS, THEIRS}))
    named = request(PATHS[0], key(THEIRS, "uploads/"))
    named.project = THEIRS
    await both.tasks.SubmitTask(named, metadata=both.metadata)
    named.project = OURS
    told = await refusal(both.tasks.SubmitTask(named, metadata=both.metadata))
    assert told.fields == (PATHS[0],)
    named.project = "nobody"
    told = await refusal(both.tasks.SubmitTask(named, metadata=both.metadata))
    assert told.reason == "PROJECT_NOT_FOUND"
