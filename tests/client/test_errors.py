"""Every status has its error, and every detail its place."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from callsheet.client import (
    AsyncTaskClient,
    CallError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    TaskNotFound,
    Unauthenticated,
    Unavailable,
    Unknown,
    Violation,
    errors,
)
from callsheet.client.errors import ERROR_CLASSES, from_refusal, from_rpc_error
from callsheet.client.testing import FakeTaskService
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.task_pb2 import Failure
from callsheet.v1.task_service_pb2 import FieldViolation, Refusal


def rpc_error(code: StatusCode, *details: ErrorInfo | RetryInfo | BadRequest) -> AioRpcError:
    """The error of a failed call, as gRPC raises it."""
    status = Status(code=code.value[0], message="no")
    for detail in details:
        status.details.add().Pack(detail)
    trailing = Metadata((errors.DETAILS_KEY, status.SerializeToString()))
    return AioRpcError(code, Metadata(), trailing, "no")


def test_every_status_but_ok_has_an_error() -> None:
    assert set(ERROR_CLASSES) == set(StatusCode) - {StatusCode.OK}


def test_every_error_of_a_call_is_in_the_table_or_has_a_reason_of_its_own() -> None:
    known = {*ERROR_CLASSES.values(), *errors.REASON_CLASSES.values()}
    found = {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, CallError) and each is not CallError
    }
    assert found == known


@pytest.mark.parametrize("code", ERROR_CLASSES, ids=lambda code: code.name)
def test_a_status_without_details_still_has_its_class(code: StatusCode) -> None:
    # Given an error of gRPC itself, which carries no details
    error = from_rpc_error(AioRpcError(code, Metadata(), Metadata(), "too large"))
    # Then class, code and sentence are there, and nothing is made up
    assert type(error) is ERROR_CLASSES[code]
    assert error.code is code
    assert str(error) == "too large"
    assert (error.reason, error.retry_delay, error.violations) == ("", None, ())


def test_details_become_attributes() -> None:
    error = from_rpc_error(
        rpc_error(
            StatusCode.INVALID_ARGUMENT,
            ErrorInfo(reason="FIELD_INVALID", domain="callsheet.dev", metadata={"field": "width"}),
            BadRequest(
                field_violations=[
                    BadRequest.FieldViolation(field="width", description="must be divisible by 8")
                ]
            ),
            RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000)),
        )
    )
    assert isinstance(error, InvalidArgument)
    assert error.reason == "FIELD_INVALID"
    assert error.metadata == {"field": "width"}
    assert error.violations == (Violation("width", "must be divisible by 8"),)
    assert error.retry_delay == timedelta(seconds=2.5)


def test_a_missing_task_has_a_class_of_its_own() -> None:
    missing = from_rpc_error(rpc_error(StatusCode.NOT_FOUND, ErrorInfo(reason="TASK_NOT_FOUND")))
    project = from_rpc_error(rpc_error(StatusCode.NOT_FOUND, ErrorInfo(reason="PROJECT_NOT_FOUND")))
    assert type(missing) is TaskNotFound
    assert type(project) is NotFound


def test_a_reason_never_overrules_the_status() -> None:
    error = from_rpc_error(rpc_error(StatusCode.INTERNAL, ErrorInfo(reason="TASK_NOT_FOUND")))
    assert error.code is StatusCode.INTERNAL


def test_details_that_cannot_be_read_leave_the_status_standing() -> None:
    trailing = Metadata((errors.DETAILS_KEY, b"\xff\xff\xff"))
    error = from_rpc_error(AioRpcError(StatusCode.UNAVAILABLE, Metadata(), trailing, "away"))
    assert type(error) is Unavailable
    assert error.reason == ""


def test_a_detail_that_cannot_be_read_leaves_the_others_standing() -> None:
    status = Status(code=14, message="away")
    spoilt = status.details.add()
    spoilt.Pack(RetryInfo())
    spoilt.value = b"\xff\xff"
    status.details.add().Pack(ErrorInfo(reason="LEDGER_UNAVAILABLE"))
    trailing = Metadata((errors.DETAILS_KEY, status.SerializeToString()))
    error = from_rpc_error(AioRpcError(StatusCode.UNAVAILABLE, Metadata(), trailing, "away"))
    assert (error.reason, error.retry_delay) == ("LEDGER_UNAVAILABLE", None)


def test_a_refused_item_of_a_batch_becomes_the_same_error() -> None:
    error = from_refusal(
        Refusal(
            code=3,
            message="width: must be divisible by 8",
            reason="FIELD_INVALID",
            violations=[FieldViolation(field="width", description="must be divisible by 8")],
        )
    )
    assert type(error) is InvalidArgument
    assert error.violations == (Violation("width", "must be divisible by 8"),)
    assert error.retry_delay is None


def test_a_refusal_with_a_code_that_nobody_knows_is_unknown() -> None:
    assert type(from_refusal(Refusal(code=99, message="?"))) is Unknown


def test_a_failure_with_a_newer_reason_has_its_number() -> None:
    newer = Failure.FromString(b"\x08\x63")  # field 1 is 99, as a newer server may send it
    assert errors.failure_reason(newer) == "REASON_99"


async def test_a_message_over_the_limit_is_refused_by_grpc_and_not_repeated(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    # When a request is larger than the server's 4 MiB
    with pytest.raises(ResourceExhausted) as refused:
        await client.submit(PingInput(echo="x" * 5_000_000))
    # Then gRPC's own refusal says so; no handler saw the call
    assert refused.value.reason == ""
    assert refused.value.retry_delay is None
    assert not fake.calls


async def test_a_key_that_is_not_valid_is_unauthenticated(fake: FakeTaskService) -> None:
    async with AsyncTaskClient(fake.address, key="other") as stranger:
        with pytest.raises(Unauthenticated) as refused:
            await stranger.submit(PingInput())
    assert refused.value.reason == "KEY_INVALID"
    assert not fake.submissions


async def test_every_detail_survives_the_wire(
    fake: FakeTaskService, client: AsyncTaskClient
) -> None:
    # Given a refusal with all that one can carry
    fake.refuse(
        "GetTask",
        PermissionDenied(
            "the key lacks the role read",
            reason="ROLE_MISSING",
            metadata={"role": "read"},
            retry_delay=timedelta(seconds=3),
            violations=[Violation("task_id", "is yours alone")],
        ),
    )
    # When it comes through a real connection
    with pytest.raises(PermissionDenied) as refused:
        await client.get("3a2f6c1e-0000-4000-8000-000000000000")
    # Then it is the same
    error = refused.value
    assert error.message == "the key lacks the role read"
    assert error.reason == "ROLE_MISSING"
    assert error.metadata == {"role": "read"}
    assert error.retry_delay == timedelta(seconds=3)
    assert error.violations == (Violation("task_id", "is yours alone"),)
    assert isinstance(error.__cause__, grpc.RpcError)
