"""Whether any worker has the memory for what a submission asks of a model."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

from callsheet.ledger.catalog import ResourceClass, TaskType
from callsheet.ledger.errors import MemoryInsufficient
from callsheet.ledger.known_workers import KnownWorkers
from callsheet.ledger.waiting import device_memory, serves
from callsheet.runtime.input_models import names_models
from callsheet.runtime.input_shapes import SIZES, Wanted, shapes_in
from callsheet.runtime.memory_fit import gigabytes, largest_that_fits, words_of
from callsheet.runtime.memory_needs import Shape, least_bytes
from callsheet.runtime.model_inventory import inventory_item
from callsheet.runtime.models import Catalogue, Model
from callsheet.v1.operations_service_pb2 import Worker
from callsheet.v1.task_service_pb2 import SubmitTaskRequest
from callsheet.v1.task_spec_pb2 import TaskSpec

#: What devices of their own memory serve models in that name no number format; none takes less.
_DTYPE: Final = "bfloat16"
#: How long files that were not found are not looked for again.
_LOOK_AGAIN: Final = timedelta(minutes=1)


class MemoryCheck:
    """Compares what submissions need at the least with the devices of the live workers.

    It refuses only what is known to fit nowhere: where no worker is alive, or one does not tell its
    device's memory, or the shape follows from a file, a submission is as good as any. Of models
    whose files are not on this machine, the weights count nothing.
    """

    def __init__(
        self,
        task_types: Mapping[str, TaskType],
        models: Catalogue,
        workers: KnownWorkers,
        *,
        cache_dir: Path,
    ) -> None:
        self._models = models
        self._workers = workers
        self._files = _LargestParts(cache_dir)
        self._queues = {
            name: kind.queue
            for name, kind in task_types.items()
            if kind.resource_class is ResourceClass.DEVICE and _names_models(name)
        }

    async def refusal(self, request: SubmitTaskRequest) -> MemoryInsufficient | None:
        """Return why a checked submission is not to be accepted; None: some worker may run it."""
        task_type = request.spec.WhichOneof("input") or ""
        queue = self._queues.get(task_type)
        if queue is None:
            return None
        most = _most_memory(await self._workers.look(), queue)
        if most is None:
            return None
        message: Message = getattr(request.spec, task_type)
        for wanted in shapes_in(message, self._models, path=f"spec.{task_type}"):
            weights = await self._files.of(wanted.model)
            if _least(wanted, wanted.shape, weights) <= most:
                continue
            # A worker may have come since, and a refusal is worth the question.
            most = _most_memory(await self._workers.look(afresh=True), queue)
            if most is None:
                return None
            if _least(wanted, wanted.shape, weights) > most:
                return _refused(wanted, weights, most=most)
        return None


class _LargestParts:
    """What the weights of models' largest parts take, as their files on this machine say."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._known: dict[str, int] = {}
        self._missed_at: dict[str, float] = {}

    async def of(self, model: Model) -> int:
        """Return the bytes; 0 while the files are not here, or not whole."""
        if model.name in self._known:
            return self._known[model.name]
        now = asyncio.get_running_loop().time()
        missed_at = self._missed_at.get(model.name)
        if missed_at is not None and now - missed_at < _LOOK_AGAIN.total_seconds():
            return 0
        # The heads of the files are read: a disk may take its time.
        found = await asyncio.to_thread(self._read, model)
        if found:
            self._known[model.name] = found
        else:
            self._missed_at[model.name] = now
        return found

    def _read(self, model: Model) -> int:
        files = inventory_item(model, cache_dir=self._cache_dir).files
        if files is None or not files.is_whole:
            return 0
        return files.largest_part_bytes(model.dtype or _DTYPE)


def _names_models(task_type: str) -> bool:
    input_message = TaskSpec.DESCRIPTOR.fields_by_name[task_type].message_type
    return input_message is not None and names_models(input_message)


def _most_memory(workers: Sequence[Worker] | None, queue: str) -> int | None:
    """Return the bytes of the largest device that serves the queue. None: it is not known."""
    serving = [worker for worker in workers or () if serves(worker, queue)]
    told = [device_memory(worker) for worker in serving]
    known = [memory for memory in told if memory is not None]
    return max(known) if known and len(known) == len(told) else None


def _least(wanted: Wanted, shape: Shape, weights: int) -> int:
    return least_bytes(
        wanted.model,
        shape,
        largest_part=weights,
        dtype=wanted.model.dtype or _DTYPE,
        is_exact=wanted.is_exact,
    )


def _refused(wanted: Wanted, weights: int, *, most: int) -> MemoryInsufficient:
    shape = wanted.shape
    fitting = largest_that_fits(
        wanted.model, shape, fits=lambda smaller: _least(wanted, smaller, weights) <= most
    )
    fields = [
        name
        for name in SIZES[wanted.model.traits.medium]
        if fitting is not None and getattr(fitting, name) < getattr(shape, name)
    ]
    return MemoryInsufficient(
        fields=tuple(f"{wanted.path}.{name}" for name in fields or [wanted.model_field]),
        model=wanted.model.name,
        asked=words_of(shape),
        needed=gigabytes(_least(wanted, shape, weights)),
        most=gigabytes(most),
        fitting="" if fitting is None else words_of(fitting),
    )
