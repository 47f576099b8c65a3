"""Every call, every id it takes, whoever's id it is: another project's things are not there.

The calls and their fields come from the descriptors. A call or a text field that is new fails here
until it is said what it is, and what it is answered when it names what is another project's.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, cast
from uuid import uuid4

import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode, aio

from callsheet.v1.operations_service_pb2 import (
    DELIVERY_STATE_WAITING,
    ListDeliveriesRequest,
    ListDeliveriesResponse,
    ReplayDeliveriesRequest,
    ReplayDeliveriesResponse,
)
from callsheet.v1.task_pb2 import CALLBACK_EVENT_QUEUED
from callsheet.v1.task_service_pb2 import (
    REUSE_MODE_RESULT,
    REUSE_MODE_RESULT_OR_JOIN,
    SUBMIT_OUTCOME_CREATED,
    CancelTaskRequest,
    ListTasksRequest,
    ReuseMode,
    SubmitTaskRequest,
)
from tests.support.contract import (
    CALLS,
    InputField,
    answer,
    input_fields,
    own_task,
    put,
    refused_in,
    request_of,
)
from tests.support.controls import Client, Plane, image_request, ping_request, told
from tests.support.eventually import eventually
from tests.support.reusing import succeed
from tests.support.sidecars import running, tailer, webhook_cell
from tests.support.snapshots import Entry, concerning, snapshot
from tests.support.work import started, succeeded

THEIRS: Final = "default"
OURS: Final = "elsewhere"
#: Nobody listens there, and nobody is asked: no courier runs.
URL: Final = "http://127.0.0.1:9/hook"

Answered = tuple[StatusCode, str] | None

#: Answered as if nobody else were there: with what is the caller's own.
OWN: Final[Answered] = None
FIELD: Final = (StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
TOKEN: Final = (StatusCode.INVALID_ARGUMENT, "PAGE_TOKEN_INVALID")
TASK: Final = (StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
PROJECT: Final = (StatusCode.NOT_FOUND, "PROJECT_NOT_FOUND")
DELIVERY: Final = (StatusCode.NOT_FOUND, "DELIVERY_NOT_FOUND")
EPOCH: Final = (StatusCode.DATA_LOSS, "EPOCH_CHANGED")
ROLE: Final = (StatusCode.PERMISSION_DENIED, "ROLE_MISSING")

#: Each field that names something: what another project's, a random and a malformed name is
#: answered with.
EXPECTED: Final[dict[tuple[str, str], tuple[Answered, Answered, Answered]]] = {
    ("AccessService/CreateTicket", "projects"): (PROJECT, PROJECT, FIELD),
    ("OperationsService/GetPerformance", "project"): (PROJECT, PROJECT, FIELD),
    ("OperationsService/ListDeliveries", "task_id"): (TASK, TASK, FIELD),
    ("OperationsService/ListDeliveries", "filter.project"): (PROJECT, PROJECT, FIELD),
    ("OperationsService/ListDeliveries", "filter.url"): (OWN, OWN, FIELD),
    ("OperationsService/ListDeliveries", "page_token"): (TOKEN, TOKEN, TOKEN),
    ("OperationsService/ListLogReaders", "task_id"): (TASK, TASK, FIELD),
    ("OperationsService/ReplayDeliveries", "delivery_id"): (DELIVERY, DELIVERY, FIELD),
    ("OperationsService/ReplayDeliveries", "filter.project"): (PROJECT, PROJECT, FIELD),
    ("OperationsService/ReplayDeliveries", "filter.url"): (OWN, OWN, FIELD),
    ("OperationsService/ReplayDeliveries", "task.task_id"): (TASK, TASK, FIELD),
    ("OperationsService/ReplayDeliveries", "page_token"): (TOKEN, TOKEN, TOKEN),
    ("TaskService/SubmitTask", "project"): (PROJECT, PROJECT, FIELD),
    ("TaskService/SubmitTask", "request_id"): (OWN, OWN, FIELD),
    ("TaskService/SubmitTasks", "requests[0].project"): (PROJECT, PROJECT, FIELD),
    ("TaskService/SubmitTasks", "requests[0].request_id"): (OWN, OWN, FIELD),
    ("TaskService/GetTask", "task_id"): (TASK, TASK, FIELD),
    ("TaskService/ListTasks", "project"): (PROJECT, PROJECT, FIELD),
    ("TaskService/ListTasks", "page_token"): (TOKEN, TOKEN, TOKEN),
    ("TaskService/WaitTask", "task_id"): (TASK, TASK, FIELD),
    ("TaskService/WatchTask", "task_id"): (TASK, TASK, FIELD),
    ("TaskService/ListTaskEvents", "task_id"): (TASK, TASK, FIELD),
    ("TaskService/WatchTask", "epoch"): (EPOCH, EPOCH, FIELD),
    ("TaskService/WatchTasks", "project"): (PROJECT, PROJECT, FIELD),
    ("TaskService/WatchTasks", "cursor"): (FIELD, FIELD, FIELD),
    ("TaskService/WatchTasks", "task_ids"): (OWN, OWN, FIELD),
    ("TaskService/CancelTask", "task_id"): (TASK, TASK, FIELD),
    ("TaskService/RetryTask", "task_id"): (TASK, TASK, FIELD),
    ("TaskService/RetryTask", "request_id"): (OWN, OWN, FIELD),
}

#: Calls that name nothing, and what they show of other projects.
NAMELESS: Final = {
    "AccessService/GetPrincipal": "the caller itself",
    "AccessService/RenewTicket": "the caller's own ticket",
    "AccessService/RevokeTicket": "the caller's own ticket",
    "OperationsService/DrainWorker": "workers are those of all projects",
    "OperationsService/ListQueues": "queues are those of all projects",
    "OperationsService/ListWorkers": "workers are those of all projects",
    "OperationsService/PauseQueue": "queues are those of all projects",
    "OperationsService/PauseWorker": "workers are those of all projects",
    "OperationsService/ResumeQueue": "queues are those of all projects",
    "OperationsService/ResumeWorker": "workers are those of all projects",
}
#: Calls that take a key of any role, or none.
ACCESS: Final = ("CreateTicket", "GetPrincipal", "RenewTicket", "RevokeTicket")
ROLELESS: Final = {f"AccessService/{name}" for name in ACCESS}

#: Texts that name nothing of a project's.
WORDS: Final = {
    "callback.url": "where the caller's own webhooks go",
    "queue": "of the contract, and of all projects",
    "reason": "words for the task's history",
    "spec.ping.echo": "answered as it is",
    "spec.synthesize_speech.language": "of the voices, which all projects share",
    "spec.synthesize_speech.text": "what to say",
    "task_type": "of the contract",
    "task_types": "of the contract",
    "worker_id": "of all projects",
}

#: Last words of the paths of texts in specs that name nothing of a project's, whatever the type.
SPEC_WORDS: Final = {
    "controlnet.name": "of the catalogue, which all projects share",
    "loras[0].name": "of the catalogue, which all projects share",
    "model": "of the catalogue, which all projects share",
    "negative_prompt": "what to avoid",
    "prompt": "what to draw, or to hear",
}

FIELDS: Final = {(call, each.path): each for call in CALLS for each in input_fields(call)}

#: References to files, which have to be of the submission's own project.
REFERENCES: Final = [place for place, each in FIELDS.items() if each.owner == "MediaReference.uri"]


@dataclass
class World:
    """Two projects of one plane: theirs, which has everything, and ours, which asks."""

    plane: Plane
    ours: Client
    keys: dict[str, Client]
    tasks: dict[str, str] = field(default_factory=dict[str, str])
    tokens: dict[str, str] = field(default_factory=dict[str, str])
    delivery: str = ""

    async def everything(self) -> frozenset[Entry]:
        """Return all that the cell keeps."""
        return await snapshot(self.plane.redis, self.plane.cell.keys.prefix)

    def theirs(self, entries: frozenset[Entry]) -> frozenset[Entry]:
        """Return what of it concerns the other project."""
        return concerning(entries, [*self.tasks.values(), THEIRS])


@pytest.fixture
async def world(plane: Plane) -> World:
    """Tasks of the other project in every state, with deliveries, and lists that go on."""
    ours = await plane.newcomer(projects=frozenset({OURS}))
    keys = {
        role: await plane.newcomer(projects=frozenset({OURS}), roles=frozenset({role}))
        for role in ("submit", "read", "operate")
    }
    world = World(plane, ours, keys)
    await _have_tasks(world)
    await _have_deliveries(world)
    await _have_pages(world)
    return world


async def _have_tasks(world: World) -> None:
    theirs = world.plane.client
    for name in ("running", "succeeded", "pending", "cancelled"):
        request = ping_request(request_id=f"of-{name}")
        request.callback.url = URL
        request.callback.events.append(CALLBACK_EVENT_QUEUED)
        world.tasks[name] = await theirs.submit(request)
    await started(world.plane.cell, world.tasks["running"])
    await succeeded(world.plane.cell, world.tasks["succeeded"])
    cancel = CancelTaskRequest(task_id=world.tasks["cancelled"])
    await theirs.tasks.CancelTask(cancel, metadata=theirs.metadata)


async def _have_deliveries(world: World) -> None:
    cell = webhook_cell(world.plane.redis, world.plane.cell.keys.cell)

    async def recorded() -> bool:
        found = [await cell.of_task(task_id) for task_id in world.tasks.values()]
        return all(found)

    async with running(tailer(cell)):
        await eventually(recorded)
    world.delivery = (await cell.of_task(world.tasks["succeeded"]))[0].id


async def _have_pages(world: World) -> None:
    theirs = world.plane.client
    tasks = await theirs.tasks.ListTasks(ListTasksRequest(page_size=1), metadata=theirs.metadata)
    listing = ListDeliveriesRequest(page_size=1)
    deliveries = await theirs.operations.ListDeliveries(listing, metadata=theirs.metadata)
    replay = ReplayDeliveriesRequest(limit=1)
    replay.filter.state = DELIVERY_STATE_WAITING
    replayed = await theirs.operations.ReplayDeliveries(replay, metadata=theirs.metadata)
    world.tokens = {
        "TaskService/ListTasks": tasks.next_page_token,
        "OperationsService/ListDeliveries": deliveries.next_page_token,
        "OperationsService/ReplayDeliveries": replayed.next_page_token,
    }
    assert all(world.tokens.values())


#: What a field of that name is given when it is another project's.
_FOREIGN: Final[dict[str, Callable[[World, str], list[str]]]] = {
    "cursor": lambda _world, _call: ["1-0"],
    "delivery_id": lambda world, _: [world.delivery],
    "epoch": lambda _world, _call: ["0123456789abcdef"],
    "page_token": lambda world, call: [world.tokens[call]],
    "project": lambda _world, _call: [THEIRS],
    "projects": lambda _world, _call: [THEIRS],
    "request_id": lambda world, _: [f"of-{name}" for name in world.tasks],
    "task_id": lambda world, _: list(world.tasks.values()),
    "task_ids": lambda world, _: list(world.tasks.values()),
    "url": lambda _world, _call: [URL],
}
_RANDOM: Final[dict[str, Callable[[], str]]] = {
    "cursor": lambda: f"{secrets.randbelow(10**15)}-0",
    "delivery_id": lambda: f"{secrets.token_hex(8)}_{uuid4()}_1",
    "epoch": lambda: secrets.token_hex(8),
    "page_token": lambda: secrets.token_urlsafe(32),
    "project": lambda: f"p-{secrets.token_hex(8)}",
    "projects": lambda: f"p-{secrets.token_hex(8)}",
    "request_id": lambda: str(uuid4()),
    "task_id": lambda: str(uuid4()),
    "task_ids": lambda: str(uuid4()),
    "url": lambda: f"http://127.0.0.1:9/{secrets.token_hex(8)}",
}
_MALFORMED: Final[dict[str, list[str]]] = {
    "cursor": ["c" * 129, "nonsense", "e:", "e:-1", "e:1-2-3"],
    "delivery_id": ["", "x" * 257],
    "epoch": ["e" * 65],
    "page_token": ["ä", "=", "nonsense"],
    "project": ["a/b", "-", "p" * 65],
    "projects": ["a/b", "-", "", "p" * 65],
    "request_id": ["a b", "ä", "r" * 129],
    "task_ids": ["x", "", "*"],
    "task_id": ["x", "00000000-0000-4000-8000-00000000000", "*", "{0}"],
    "url": ["u" * 2049],
}


def test_every_text_of_the_contract_names_something_or_is_said_to_name_nothing() -> None:
    """A new call, or a new field that may be an id, has to be put into a table above."""
    texts = {place for place, each in FIELDS.items() if each.is_text}
    unsaid = {place for place in texts - set(EXPECTED) - set(REFERENCES) if not _is_said(place[1])}
    assert unsaid == set()
    assert set(EXPECTED) <= texts
    asked = {call for call, _ in EXPECTED}
    assert set(CALLS) == asked | set(NAMELESS)


def test_every_word_is_still_one_of_the_contract() -> None:
    said = {path.removeprefix("requests[0].") for _, path in FIELDS}
    assert set(WORDS) <= said
    endings = {end for end in SPEC_WORDS for path in said if _ends_in(path, end)}
    assert endings == set(SPEC_WORDS)


@pytest.mark.parametrize("place", EXPECTED, ids=lambda place: f"{place[0]} {place[1]}")
async def test_what_is_another_project_s_is_not_there(world: World, place: tuple[str, str]) -> None:
    expected = EXPECTED[place][0]
    for value in _FOREIGN[FIELDS[place].field.name](world, place[0]):
        await _is_answered(world, world.ours, FIELDS[place], value, expected)


@pytest.mark.parametrize("place", EXPECTED, ids=lambda place: f"{place[0]} {place[1]}")
async def test_a_name_of_nothing_is_answered_alike_and_a_malformed_one_refused(
    world: World, place: tuple[str, str]
) -> None:
    leaf = FIELDS[place].field.name
    _, random, malformed = EXPECTED[place]
    await _is_answered(world, world.ours, FIELDS[place], _RANDOM[leaf](), random)
    for value in _MALFORMED[leaf]:
        await _is_answered(world, world.ours, FIELDS[place], value, malformed)


@pytest.mark.parametrize("call", sorted({call for call, _ in EXPECTED}))
async def test_no_single_role_sees_more_of_another_project(world: World, call: str) -> None:
    """One role is enough for each call; with any other one it is denied whatever it names."""
    path = next(path for of, path in EXPECTED if of == call)
    value = _FOREIGN[FIELDS[call, path].field.name](world, call)[0]
    before = await world.everything()
    answers = {role: await _told(client, call, path, value) for role, client in world.keys.items()}
    assert await world.everything() == before
    expected = EXPECTED[call, path][0]
    if call in ROLELESS:
        assert set(answers.values()) == {expected}
    else:
        assert sorted(answers.values(), key=str) == sorted([ROLE, ROLE, expected], key=str)


@pytest.mark.parametrize("mode", [REUSE_MODE_RESULT, REUSE_MODE_RESULT_OR_JOIN])
@pytest.mark.parametrize("is_made", [True, False], ids=["an output", "a task that waits"])
async def test_another_project_s_work_is_never_used_again(
    world: World, mode: ReuseMode.ValueType, *, is_made: bool
) -> None:
    """An equal submission of the project itself is answered with it, so it could have been."""
    request = image_request(seed=7)
    request.reuse.mode = mode
    theirs = world.plane.client
    world.tasks["offered"] = await theirs.submit(request)
    if is_made:
        await succeed(world.plane.cell, world.tasks["offered"])
    before = world.theirs(await world.everything())
    answered = await world.ours.tasks.SubmitTask(request, metadata=world.ours.metadata)
    assert answered.outcome == SUBMIT_OUTCOME_CREATED
    assert not _mentions(world, answered.SerializeToString())
    assert world.theirs(await world.everything()) == before
    if is_made or mode == REUSE_MODE_RESULT_OR_JOIN:
        again = await theirs.tasks.SubmitTask(request, metadata=theirs.metadata)
        assert again.outcome != SUBMIT_OUTCOME_CREATED


def _is_said(path: str) -> bool:
    said = path.removeprefix("requests[0].")
    return said in WORDS or any(_ends_in(said, end) for end in SPEC_WORDS)


def _ends_in(path: str, end: str) -> bool:
    return path.startswith("spec.") and path.endswith(f".{end}")


async def _is_answered(
    world: World, client: Client, place: InputField, value: str, expected: Answered
) -> None:
    """Assert how the call is answered, and that the other project has what it had."""
    own = await own_task(client, place.call)
    before = await world.everything()
    found = await _told(client, place.call, place.path, value, own=own, world=world)
    assert found == expected, f"{place.call} with {place.path}={value!r}"
    after = await world.everything()
    if expected == OWN:
        assert world.theirs(after) == world.theirs(before)
    else:
        assert after == before


async def _told(
    client: Client, call: str, path: str, value: str, *, own: str = "", world: World | None = None
) -> Answered:
    """Return what the call was refused with, alone or in a batch; None: it was answered."""
    request = request_of(call, task_id=own)
    put(request, path, value, task_id=own)
    if path == "page_token" and call.endswith("ReplayDeliveries"):
        put(request, "filter.state", DELIVERY_STATE_WAITING)
    try:
        content = await answer(client, call, request)
    except aio.AioRpcError as error:
        refusal = told(error)
        return refusal.code, refusal.reason
    response = GetMessageClass(CALLS[call].output_type).FromString(content)
    if world is not None:
        assert not _mentions(world, content)
        _shows_nothing(response)
    return refused_in(response)


def _shows_nothing(response: Message) -> None:
    """Assert that a list of deliveries is empty: the caller has none."""
    with suppress(AttributeError):
        assert not cast("ListDeliveriesResponse", response).deliveries
    if isinstance(response, ReplayDeliveriesResponse):
        assert response.replayed == 0


def _mentions(world: World, content: bytes) -> bool:
    return any(task_id.encode() in content for task_id in world.tasks.values())


def test_a_submission_is_what_the_matrix_takes_it_for() -> None:
    """The requests that the matrix starts from have nothing wrong with them but what it puts in."""
    assert request_of("TaskService/SubmitTask", task_id="") == ping_request()
    assert isinstance(request_of("TaskService/SubmitTask", task_id=""), SubmitTaskRequest)
