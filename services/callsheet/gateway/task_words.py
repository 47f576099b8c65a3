"""The words that each API says: names of task types, and where a task is in its life."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, TypeAlias

from callsheet.client.task_types import TaskType, task_types
from callsheet.gateway.problems import Refused
from callsheet.v1 import task_pb2

#: How one API calls the states of a task.
StatusWords: TypeAlias = Mapping[int, str]

#: `/api/v1`, as in webhooks: a cancelled task has failed, with the reason CANCELLED.
PLATFORM: Final[StatusWords] = MappingProxyType(
    {
        task_pb2.TASK_STATE_PENDING: "queued",
        task_pb2.TASK_STATE_RUNNING: "processing",
        task_pb2.TASK_STATE_SUCCEEDED: "completed",
        task_pb2.TASK_STATE_FAILED: "failed",
        task_pb2.TASK_STATE_CANCELLED: "failed",
    }
)
#: `/task` and `/upload-video`.
VIDEO: Final[StatusWords] = MappingProxyType(
    {
        task_pb2.TASK_STATE_PENDING: "processing",
        task_pb2.TASK_STATE_RUNNING: "processing",
        task_pb2.TASK_STATE_SUCCEEDED: "completed",
        task_pb2.TASK_STATE_FAILED: "failed",
        task_pb2.TASK_STATE_CANCELLED: "cancelled",
    }
)
#: `/api/background`.
BACKGROUND: Final[StatusWords] = MappingProxyType(
    {
        task_pb2.TASK_STATE_PENDING: "pending",
        task_pb2.TASK_STATE_RUNNING: "started",
        task_pb2.TASK_STATE_SUCCEEDED: "success",
        task_pb2.TASK_STATE_FAILED: "failure",
        task_pb2.TASK_STATE_CANCELLED: "revoked",
    }
)

#: What clients call kinds of work, besides the task types' own names, and the task type each is.
NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "image_generation": "generate_image",
        "video_generation": "generate_video",
        "audio_generation": "generate_audio",
        "image_editing": "edit_image",
        "image_batch": "generate_images",
        "image_upscaling": "upscale_image",
        "video_editing": "edit_video",
        "audio_editing": "edit_audio",
        "speech_synthesis": "synthesize_speech",
        "test_prompt": "test_prompt",
        "video.process": "process_video",
        "youtube.process": "process_youtube",
        "embeddings.generate": "generate_embeddings",
        "visual.analyze": "analyze_visual",
        "analyze_content": "analyze_content",
        "generate_embeddings_batch": "generate_embeddings",
        "process_with_llm": "process_with_llm",
        "smart_categorization": "categorize",
        "process_document": "process_document",
        "extract_text_from_pdf": "extract_pdf_text",
        "extract_pdf_text": "extract_pdf_text",
        "analyze_file_with_ai": "analyze_file",
        "batch_process_files": "process_files",
        "transcribe_audio": "transcribe_audio",
        "process_video": "process_video",
        "enhance_video_with_ai": "enhance_video",
        "batch_transcribe_videos": "transcribe_videos",
    }
)


def status_word(task: task_pb2.Task, words: StatusWords) -> str:
    """Return where the task is; a state that is newer than this gateway is `unknown`."""
    return words.get(task.state, "unknown")


def task_type_named(name: str) -> TaskType:
    """Return the task type that a client means.

    Raises Refused: 501 TASK_TYPE_UNAVAILABLE for work that this build has no task type for, 400
    TASK_TYPE_UNKNOWN for a name that nobody knows.
    """
    found = task_types().get(NAMES.get(name, name))
    if found is not None:
        return found
    if name in NAMES:
        raise Refused(
            HTTPStatus.NOT_IMPLEMENTED,
            "TASK_TYPE_UNAVAILABLE",
            f"this build has no task type for {name}; it has {', '.join(sorted(task_types()))}",
        )
    raise Refused(
        HTTPStatus.BAD_REQUEST,
        "TASK_TYPE_UNKNOWN",
        f"there is no task type {name[:64]!r}; known are {', '.join(known_names())}",
    )


def known_names() -> list[str]:
    """Return every name of work that this build can do."""
    there = task_types()
    return sorted({*there, *(name for name, kind in NAMES.items() if kind in there)})
