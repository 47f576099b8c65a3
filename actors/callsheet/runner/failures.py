"""From whatever a handler raised to a recorded failure."""

import re
from typing import Final

from callsheet.artifacts.errors import ArtifactStoreError
from callsheet.runner.context import HandlerFailure
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_ARTIFACT_STORE,
    FAILURE_REASON_DEVICE_LOST,
    FAILURE_REASON_INTERNAL,
    FAILURE_REASON_OUT_OF_MEMORY,
    Failure,
)

LONGEST_MESSAGE: Final = 500

_SECRETS: Final = re.compile(
    r"hf_[A-Za-z0-9]{16,}"  # tokens of the hub
    r"|cs_[0-9a-f]{8}_[\w-]{20,}"  # our API keys
    r"|whsec_[\w+/=-]{16,}"  # webhook secrets
    r"|(?<=://)[^/\s@]+(?=@)"  # user and password in a URL
    r"|(?i:(?<=bearer )\S+)"
    r"|(?<=[?&]X-Amz-Signature=)\w+"
)


def failure_of(error: Exception) -> Failure:
    """Return the failure to record; whether it is retried is the ledger's to say."""
    match error:
        case HandlerFailure(reason=reason):
            return Failure(
                reason=reason,
                message=one_line(error.message),
                memory_needed_bytes=error.memory_needed_bytes,
            )
        case ArtifactStoreError():
            return Failure(reason=FAILURE_REASON_ARTIFACT_STORE, message=one_line(error.message))
        case _ if is_out_of_memory(error):
            return Failure(reason=FAILURE_REASON_OUT_OF_MEMORY, message=_named(error))
        case _ if breaks_device(error):
            return Failure(reason=FAILURE_REASON_DEVICE_LOST, message=_named(error))
        case _:
            return Failure(reason=FAILURE_REASON_INTERNAL, message=_named(error))


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory, of the machine or of a device, was not enough."""
    if isinstance(error, MemoryError):
        return True
    # By name and text, because this module must not wait for torch to be imported.
    name = type(error).__name__
    return name == "OutOfMemoryError" or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate" in str(error)
    )


def breaks_device(error: BaseException) -> bool:
    """Tell whether the process cannot use its device any more, as after a CUDA fault."""
    return type(error).__name__ == "AcceleratorError" and not is_out_of_memory(error)


def one_line(text: str) -> str:
    """Return the text on one line of at most 500 characters, with what looks secret masked."""
    line = _SECRETS.sub("***", " ".join(text.split()))
    return line if len(line) <= LONGEST_MESSAGE else f"{line[: LONGEST_MESSAGE - 1]}…"


def _named(error: Exception) -> str:
    return one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
