"""From whatever a handler raised to a recorded failure."""

import pytest

from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.runner.context import HandlerFailure
from callsheet.runner.failures import (
    LONGEST_MESSAGE,
    breaks_device,
    failure_of,
    is_out_of_memory,
    one_line,
)
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_ARTIFACT_STORE,
    FAILURE_REASON_DEVICE_LOST,
    FAILURE_REASON_INTERNAL,
    FAILURE_REASON_INVALID_INPUT,
    FAILURE_REASON_OUT_OF_MEMORY,
    Failure,
    FailureReason,
)


class OutOfMemoryError(RuntimeError):
    """Named like torch's, whose import takes seconds."""


class AcceleratorError(RuntimeError):
    """Named like torch's."""


@pytest.mark.parametrize(
    ("error", "reason", "message"),
    [
        (HandlerFailure(FAILURE_REASON_INVALID_INPUT, "no"), FAILURE_REASON_INVALID_INPUT, "no"),
        (ArtifactStoreError("disk full"), FAILURE_REASON_ARTIFACT_STORE, "disk full"),
        (MemoryError(), FAILURE_REASON_OUT_OF_MEMORY, "MemoryError"),
        (
            AcceleratorError("an illegal memory access"),
            FAILURE_REASON_DEVICE_LOST,
            "AcceleratorError: an illegal memory access",
        ),
        (
            OutOfMemoryError("CUDA out of memory"),
            FAILURE_REASON_OUT_OF_MEMORY,
            "OutOfMemoryError: CUDA out of memory",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            FAILURE_REASON_OUT_OF_MEMORY,
            "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory",
        ),
        (ValueError("odd"), FAILURE_REASON_INTERNAL, "ValueError: odd"),
        (KeyError(), FAILURE_REASON_INTERNAL, "KeyError"),
    ],
)
def test_every_error_has_its_reason(
    error: Exception, reason: FailureReason.ValueType, message: str
) -> None:
    """An invalid value is the input's fault only when the handler says so."""
    assert failure_of(error) == Failure(reason=reason, message=message)


def test_a_broken_device_is_told_from_a_full_one() -> None:
    assert breaks_device(AcceleratorError("an illegal memory access was encountered"))
    assert not breaks_device(OutOfMemoryError("CUDA out of memory"))
    assert not breaks_device(RuntimeError("odd"))
    assert not is_out_of_memory(RuntimeError("odd"))


def test_a_message_is_one_bounded_line() -> None:
    line = one_line("first\n\tsecond " + "x" * 1000)
    assert line.startswith("first second xxx")
    assert len(line) == LONGEST_MESSAGE


@pytest.mark.parametrize(
    "secret",
    [
        "hf_abcdefghijklmnopqrstuvwxyz012345",
        "cs_01234567_abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq",
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "https://user:password@hub.example/model",
        "Authorization: Bearer abc.def",
        "https://cdn.example/x?X-Amz-Signature=deadbeef",
    ],
)
def test_what_looks_secret_is_masked(secret: str) -> None:
    line = one_line(f"refused {secret} today")
    assert "***" in line
    assert line.endswith(" today")
    for part in ("abcdef", "C2FV", "password", "deadbeef"):
        assert part not in line
