"""What equal submissions have in common: a digest of all that their output follows from."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from callsheet.ledger.acceptance import ReuseWish
from callsheet.ledger.catalog import TaskType
from callsheet.ledger.model import PinnedModel
from callsheet.runtime.input_defaults import InputFields, fields_of, fill_in
from callsheet.runtime.input_models import adapters_of, model_of
from callsheet.runtime.models import Catalogue, Origin
from callsheet.v1.task_service_pb2 import REUSE_MODE_RESULT_OR_JOIN, SubmitTaskRequest
from callsheet.v1.task_spec_pb2 import TaskSpec

#: Stands before everything that is digested. It grows when the same input would mean another
#: output, or be digested in another way: then nothing that was kept before is equal any more.
VERSION: Final = "callsheet-reuse-1"


class SpecDigests:
    """Digests specs by the catalogue of models; one for all calls."""

    def __init__(self, task_types: Mapping[str, TaskType], models: Catalogue) -> None:
        self._models = models
        self._fields = {
            name: fields_of(_input_of(name))
            for name, kind in task_types.items()
            if kind.cache_ttl is not None
        }

    def wish(self, request: SubmitTaskRequest) -> ReuseWish | None:
        """Return by what a checked submission may be answered; None: only by a task of its own."""
        if not request.HasField("reuse") or not request.reuse.mode:
            return None
        task_type = request.spec.WhichOneof("input") or ""
        digest = self.digest(request.spec)
        if digest is None:
            return None
        limited = request.reuse.HasField("max_age")
        return ReuseWish(
            digest,
            joins=request.reuse.mode == REUSE_MODE_RESULT_OR_JOIN,
            max_age=request.reuse.max_age.ToTimedelta() if limited else None,
            models=self._pinned(getattr(request.spec, task_type), self._fields[task_type]),
        )

    def digest(self, spec: TaskSpec) -> str | None:
        """Return the digest of all that the task's output follows from, in hexadecimal digits.

        None: it follows from more than the spec says, as when no seed is set or a model may change.
        """
        task_type = spec.WhichOneof("input") or ""
        fields = self._fields.get(task_type)
        if fields is None:
            return None
        whole = TaskSpec()
        whole.CopyFrom(spec)
        input_message: Message = getattr(whole, task_type)
        if not all(input_message.HasField(seed) for seed in fields.seeds):
            return None
        origins = self._origins(input_message)
        if not all(origin.pin for origin in origins):
            return None
        fill_in(input_message, fields, model=model_of(input_message, self._models))
        parts = (VERSION, *(origin.pin for origin in origins))
        digest = sha256("\0".join(parts).encode() + b"\0")
        # What this version does not know of the input is digested too: it may mean something.
        digest.update(whole.SerializeToString(deterministic=True))
        return digest.hexdigest()

    def _pinned(self, input_message: Message, fields: InputFields) -> tuple[PinnedModel, ...]:
        """Return the models that the digest is of, as an output says that they ran."""
        model = model_of(input_message, self._models)
        if model is None:
            return ()
        return tuple(PinnedModel(name, model.name, model.revision) for name in fields.models)

    def _origins(self, input_message: Message) -> list[Origin]:
        """Return whatever has weights that bear on the output."""
        model = model_of(input_message, self._models)
        if model is None:
            return []
        return [model, *adapters_of(input_message, self._models, model=model)]


def _input_of(task_type: str) -> Descriptor:
    arm: FieldDescriptor = TaskSpec.DESCRIPTOR.fields_by_name[task_type]
    if arm.message_type is None:
        raise ValueError(f"{task_type}: an arm of TaskSpec.input is a message")
    return arm.message_type
