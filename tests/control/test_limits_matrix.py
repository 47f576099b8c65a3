"""Every field of every request at its limits: taken at the limit, refused by name beyond it.

The cases come from the rules in the contract. A field without a limit, or with a rule that nobody
tests, fails here.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final, cast

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc import StatusCode, aio

from buf.validate import validate_pb2
from callsheet.control.server import LARGEST_REQUEST, OPTIONS
from callsheet.tasks.v1.edit_image_pb2 import IMAGE_EDIT_METHOD_INSTRUCTION
from callsheet.v1.task_service_pb2 import (
    GetTaskRequest,
    ListTasksRequest,
    SubmitTaskRequest,
    SubmitTasksRequest,
    WatchTaskRequest,
)
from tests.support.contract import (
    CALLS,
    UPLOAD,
    InputField,
    answer,
    input_fields,
    least_of,
    message_of,
    own_task,
    put,
    request_of,
)
from tests.support.controls import Client, Plane, Told, ping_request, refusal, told, until
from tests.support.rule_cases import Case, cases_of, is_limited
from tests.support.snapshots import snapshot

#: Fields that may hold whatever their type can, and why that is no harm.
LIMITLESS: Final = {
    "ListTaskEventsRequest.after_sequence": "OUT_OF_RANGE beyond the task's last fact",
    "TaskReplay.from_sequence": "compared with the sequences there are; beyond them is nothing",
    "WatchTaskRequest.after_sequence": "OUT_OF_RANGE beyond the task's last fact",
}
#: Good values that are refused for another reason than their form, and the reason.
KNOWN_TO_NOBODY: Final = {
    "ControlNetUse.name": "MODEL_NOT_FOUND",
    "CreateTicketRequest.projects": "PROJECT_NOT_FOUND",
    "DrainWorkerRequest.worker_id": "WORKER_NOT_FOUND",
    "EditImageInput.loras": "FIELD_INVALID",  # one that is named twice
    "EditImageInput.model": "MODEL_NOT_FOUND",
    "GenerateAudioInput.model": "MODEL_NOT_FOUND",
    "GenerateImageInput.loras": "FIELD_INVALID",  # one that is named twice
    "GenerateImageInput.model": "MODEL_NOT_FOUND",
    "GenerateImagesInput.loras": "FIELD_INVALID",  # one that is named twice
    "GenerateImagesInput.model": "MODEL_NOT_FOUND",
    "GenerateVideoInput.loras": "FIELD_INVALID",  # one that is named twice
    "GenerateVideoInput.model": "MODEL_NOT_FOUND",
    "LoraUse.name": "MODEL_NOT_FOUND",
    "ListDeliveriesRequest.page_token": "PAGE_TOKEN_INVALID",
    "ListTasksRequest.page_token": "PAGE_TOKEN_INVALID",
    "ListTasksRequest.task_type": "FIELD_INVALID",
    "PauseQueueRequest.queue": "QUEUE_NOT_FOUND",
    "PauseWorkerRequest.worker_id": "WORKER_NOT_FOUND",
    "RenewTicketRequest.time_to_live": "TICKET_NEEDED",
    "ReplayDeliveriesRequest.delivery_id": "DELIVERY_NOT_FOUND",
    "ReplayDeliveriesRequest.page_token": "PAGE_TOKEN_INVALID",
    "ResumeQueueRequest.queue": "QUEUE_NOT_FOUND",
    "ResumeWorkerRequest.worker_id": "WORKER_NOT_FOUND",
    "SynthesizeSpeechInput.model": "MODEL_NOT_FOUND",
    "UpscaleImageInput.model": "MODEL_NOT_FOUND",
    "VideoStyle.model": "MODEL_NOT_FOUND",
    "WatchTaskRequest.epoch": "EPOCH_CHANGED",
    "WatchTasksRequest.cursor": "FIELD_INVALID",
    "WatchTasksRequest.task_types": "FIELD_INVALID",
}

#: Sizes within the contract's limits, some of which the default model does not make.
UP_TO_THE_MODEL: Final = {
    "GenerateAudioInput.duration",
    "GenerateVideoInput.frames",
    "GenerateVideoInput.height",
    "GenerateVideoInput.width",
}
#: By the id of a rule about fields that do not go together: the message, and values that are good
#: and bad.
MESSAGE_RULES: Final[dict[str, tuple[str, dict[str, Any], dict[str, Any]]]] = {
    "audio_track.end_after_start": (
        "spec.edit_audio.tracks[0]",
        {"start": Duration(seconds=2), "end": Duration(seconds=3)},
        {"start": Duration(seconds=2), "end": Duration(seconds=2)},
    ),
    "edit_image.mask_or_instruction": (
        "spec.edit_image",
        {"mask.uri": UPLOAD},
        {"mask.uri": UPLOAD, "method": IMAGE_EDIT_METHOD_INSTRUCTION},
    ),
    "generate_video.prompt_or_image": (
        "spec.generate_video",
        {"prompt": "", "image.uri": UPLOAD},
        {"prompt": ""},
    ),
    "video_clip.end_after_start": (
        "spec.edit_video.clips[0]",
        {"start": Duration(seconds=2), "end": Duration(seconds=3)},
        {"start": Duration(seconds=2), "end": Duration(seconds=1)},
    ),
    "video_overlay.end_after_start": (
        "spec.edit_video.overlays[0]",
        {"start": Duration(seconds=2), "end": Duration(seconds=3)},
        {"start": Duration(seconds=2), "end": Duration(seconds=1)},
    ),
}
#: A message that stands in many places of a request has one set of rules: its fields count once.
PLACES: Final = {
    f"{place.call} {place.path}": place
    for place in {
        (call, place.owner): place
        for call in CALLS
        for place in reversed(input_fields(call))
        if not place.path.startswith("requests[0].")
    }.values()
}
#: As long as a project's name may be.
LONG_NAMES: Final = frozenset({"p" * 63, "p" * 64})


def _choices() -> Iterator[tuple[str, str, str]]:
    """Yield (call, the path of a message, its choice) for each choice that must be made."""
    for call in CALLS:
        messages = {"": CALLS[call].input_type}
        nested = [place for place in input_fields(call) if place.is_nested]
        messages |= {f"{place.path}.": message_of(place.field) for place in nested}
        for prefix, message in messages.items():
            for choice in message.oneofs if not prefix.startswith("requests[0]") else ():
                options = cast("Any", choice.GetOptions())
                if options.Extensions[validate_pb2.oneof].required:
                    yield call, prefix, choice.name


def test_every_field_has_a_limit_or_a_reason() -> None:
    bare = {place.owner for call in CALLS for place in input_fields(call) if not is_limited(place)}
    assert bare == set(LIMITLESS)


def test_every_exception_is_still_one_of_the_contract() -> None:
    owners = {place.owner for call in CALLS for place in input_fields(call)}
    assert set(KNOWN_TO_NOBODY) <= owners


def test_no_message_has_rules_that_nobody_tests() -> None:
    messages = {CALLS[call].input_type for call in CALLS}
    messages |= {message_of(p.field) for p in PLACES.values() if p.is_nested}
    ruled = [
        rule.id
        for message in messages
        for rule in cast("Any", message.GetOptions()).Extensions[validate_pb2.message].cel
    ]
    assert sorted(ruled) == sorted(MESSAGE_RULES)


@pytest.mark.parametrize("rule", MESSAGE_RULES)
async def test_fields_that_do_not_go_together_are_refused_together(plane: Plane, rule: str) -> None:
    path, good, bad = MESSAGE_RULES[rule]
    for values in (good, bad):
        request = request_of("TaskService/SubmitTask", task_id="")
        for field, value in values.items():
            put(request, f"{path}.{field}", value)
        before = await _everything(plane)
        if values is bad:
            _is_invalid(await _refused(plane.client, "TaskService/SubmitTask", request), path)
            assert await _everything(plane) == before
        else:
            assert await _reason(plane.client, "TaskService/SubmitTask", request) == ""


@pytest.mark.parametrize("name", [name for name, place in PLACES.items() if cases_of(place)])
async def test_a_field_takes_what_is_within_its_limits_and_names_itself_beyond(
    plane: Plane, name: str
) -> None:
    place = PLACES[name]
    names = LONG_NAMES if place.field.name == "project" else frozenset({"default"})
    client = await plane.newcomer(projects=names)
    for case in cases_of(place):
        await _holds(plane, client, place, case, project="" if len(names) == 1 else min(names))


@pytest.mark.parametrize("choice", list(_choices()), ids=lambda choice: f"{choice[0]} {choice[1]}")
async def test_a_choice_that_is_not_made_is_named(
    plane: Plane, choice: tuple[str, str, str]
) -> None:
    call, prefix, name = choice
    request = request_of(call, task_id="")
    put(request, f"{prefix}{'ping' if prefix else 'filter'}", None)
    before = await _everything(plane)
    refused = await _refused(plane.client, call, request)
    _is_invalid(refused, f"{prefix}{name}")
    assert await _everything(plane) == before


async def test_each_request_of_a_batch_names_its_own_field(plane: Plane) -> None:
    """All that SubmitTask refuses is refused in a batch, and what stands between is accepted."""
    batch, wanted = SubmitTasksRequest(), list[str]()
    for place in PLACES.values():
        if place.call == "TaskService/SubmitTask" and place.path != "spec":
            for case in cases_of(place):
                if not case.is_good:
                    batch.requests.append(
                        cast("SubmitTaskRequest", _request(place, case, task_id=""))
                    )
                    wanted.append(case.path)
    batch.requests.append(ping_request())
    response = await plane.client.tasks.SubmitTasks(batch, metadata=plane.client.metadata)
    *refused, good = response.results
    told_of = [[violation.field for violation in each.refusal.violations] for each in refused]
    assert [sorted(set(fields)) for fields in told_of] == [[path] for path in wanted]
    assert good.HasField("task")
    listed = await plane.client.tasks.ListTasks(ListTasksRequest(), metadata=plane.client.metadata)
    assert [task.id for task in listed.tasks] == [good.task.id]


async def _holds(
    plane: Plane, client: Client, place: InputField, case: Case, *, project: str
) -> None:
    task_id = await own_task(client, place.call, project=project)
    request = _request(place, case, task_id=task_id)
    before = await _everything(plane)
    label = f"{place.path}: {case.label}"
    if not case.is_good:
        _is_invalid(await _refused(client, place.call, request), case.path, label=label)
        assert await _everything(plane) == before, label
        return
    reason = await _reason(client, place.call, request)
    if place.owner in UP_TO_THE_MODEL and reason:
        assert reason == "FIELD_INVALID", label
        assert await _everything(plane) == before, label
        return
    assert reason == (KNOWN_TO_NOBODY.get(place.owner, "") if case.value else ""), label
    assert not reason or await _everything(plane) == before, label


async def _reason(client: Client, call: str, request: Message) -> str:
    """Return why the call was refused. Empty: it was not."""
    try:
        await answer(client, call, request)
    except aio.AioRpcError as error:
        return told(error).reason
    return ""


def _request(place: InputField, case: Case, *, task_id: str) -> Message:
    request = request_of(place.call, task_id=task_id)
    if place.field.is_repeated and isinstance(case.value, int):
        put(request, place.path, [least_of(place.field)] * case.value, task_id=task_id)
    else:
        put(request, place.path, case.value, task_id=task_id)
    return request


async def _refused(client: Client, call: str, request: Message) -> Told:
    return await refusal(answer(client, call, request))


def _is_invalid(refused: Told, path: str, *, label: str = "") -> None:
    """Assert that the refusal names that field, as often as it likes, and no other."""
    code = StatusCode.INVALID_ARGUMENT
    assert (refused.code, refused.reason) == (code, "FIELD_INVALID"), f"{label}: {refused}"
    assert set(refused.fields) == {path}, label


async def _everything(plane: Plane) -> object:
    return await snapshot(plane.redis, plane.cell.keys.prefix)


async def test_a_message_is_taken_up_to_the_transport_s_limit(plane: Plane) -> None:
    """At the limit it reaches our own decoder; one byte more is gRPC's to refuse."""
    call = "TaskService/GetTask"
    at_limit = await refusal(plane.client.raw(call, b"\xff" * LARGEST_REQUEST))
    beyond = await refusal(plane.client.raw(call, b"\xff" * (LARGEST_REQUEST + 1)))
    assert (at_limit.code, at_limit.reason) == (StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED")
    assert (beyond.code, beyond.reason) == (StatusCode.RESOURCE_EXHAUSTED, "")


@pytest.mark.parametrize("call", CALLS)
async def test_metadata_beyond_the_transport_s_limit_is_refused_by_every_call(
    plane: Plane, call: str
) -> None:
    limit = dict(OPTIONS)["grpc.absolute_max_metadata_size"]
    client = Client(plane.client.channel, plane.client.key)
    client.metadata = (*client.metadata, ("x-padding", "x" * limit))
    before = await _everything(plane)
    refused = await _refused(client, call, request_of(call, task_id=""))
    assert refused.code is StatusCode.RESOURCE_EXHAUSTED
    assert await _everything(plane) == before


async def test_a_connection_has_as_many_streams_as_it_may_and_the_next_one_waits(
    plane: Plane,
) -> None:
    """The next one is answered when another one ends; other connections never notice."""
    most = dict(OPTIONS)["grpc.max_concurrent_streams"]
    async with aio.insecure_channel(plane.address, options=[_OWN_CONNECTION]) as channel:
        other = Client(channel, plane.client.key)
        task_id = await other.submit()
        watches = [plane.client.watch(task_id, after=1) for _ in range(most)]

        def are_all_in() -> bool:
            # gRPC may cancel one of so many that are opened at once: it comes again.
            for place, watch in enumerate(watches):
                if watch.done():
                    watches[place] = plane.client.watch(task_id, after=1)
            return plane.control.hub.watchers == most

        await until(are_all_in)
        request = GetTaskRequest(task_id=task_id)
        next_one = asyncio.ensure_future(plane.client.raw("TaskService/GetTask", _bytes(request)))
        await other.tasks.GetTask(request, metadata=other.metadata)
    assert not next_one.done()
    watches.pop().cancel()
    assert await next_one
    for watch in watches:
        watch.cancel()


#: gRPC would share the connection of another channel to the same address.
_OWN_CONNECTION: Final = ("grpc.use_local_subchannel_pool", 1)


def _bytes(message: GetTaskRequest | WatchTaskRequest) -> bytes:
    return message.SerializeToString()


def test_the_cases_are_many_and_of_both_kinds() -> None:
    """The matrix is made of rules: this says that it is not made of nothing."""
    counts: dict[bool, int] = defaultdict(int)
    for place in PLACES.values():
        for case in cases_of(place):
            counts[case.is_good] += 1
    assert counts[True] > 100
    assert counts[False] > 150
