"""Warm pipelines: loaded once and kept while there is room; the least recently used one goes."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock, Thread
from typing import Final, Protocol, cast

import structlog

from callsheet.internal.v1.pipe_pb2 import DeviceReport
from callsheet.runner.agreement import PromptAgreement
from callsheet.runner.context import HandlerFailure, LoadedPipeline
from callsheet.runner.diffusion import DiffusersPipeline, DiffusionEngine, import_libraries
from callsheet.runner.failures import is_out_of_memory
from callsheet.runner.tiny_model import tiny_model_folder
from callsheet.runtime.models import Catalogue, Model, UnknownModel
from callsheet.v1.task_pb2 import FAILURE_REASON_MODEL_NOT_FOUND, FAILURE_REASON_UNAVAILABLE

MOST_PIPELINES: Final = 8
_SHARE_OF_DEVICE: Final = 0.7  # the rest is for what inference itself needs

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Warm(LoadedPipeline, Protocol):
    """A loaded pipeline that knows its size."""

    def size_bytes(self) -> int:
        """Return how much memory its weights take."""
        ...


class PipelineCache:
    """Keeps pipelines within a budget of number and bytes; the one just asked for always stays."""

    def __init__(
        self,
        load: Callable[[Model], Warm],
        *,
        most: int,
        most_bytes: int,
        release: Callable[[], None],
    ) -> None:
        """Release is called after pipelines were dropped, to give their memory back."""
        self._load = load
        self._most, self._most_bytes = most, most_bytes
        self._release = release
        self._warm: OrderedDict[tuple[str, str], Warm] = OrderedDict()
        # from_pretrained patches classes of the whole process: never two loads at once.
        self._lock = Lock()

    def get(self, model: Model) -> Warm:
        """Return the model's pipeline, loading it when it is not warm."""
        key = (model.name, model.revision)
        with self._lock:
            if (pipeline := self._warm.get(key)) is None:
                self._shrink(most=self._most - 1)
                pipeline = self._loaded(model)
                self._warm[key] = pipeline
                self._shrink(most=self._most)
            self._warm.move_to_end(key)
            return pipeline

    def clear(self) -> None:
        """Drop every pipeline."""
        with self._lock:
            self._drop_all()

    def names(self) -> Iterator[str]:
        """Yield the names of the warm models, the least recently used first."""
        return (name for name, _ in self._warm)

    def _loaded(self, model: Model) -> Warm:
        try:
            return self._load(model)
        except Exception as error:
            if not (self._warm and is_out_of_memory(error)):
                raise
        # Outside the except: its error would keep what was half loaded in memory.
        self._drop_all()
        return self._load(model)

    def _shrink(self, *, most: int) -> None:
        dropped = False
        while len(self._warm) > 1 and self._bytes() > self._most_bytes:
            self._warm.popitem(last=False)
            dropped = True
        while len(self._warm) > most:
            self._warm.popitem(last=False)
            dropped = True
        if dropped:
            self._release()

    def _drop_all(self) -> None:
        self._warm.clear()
        self._release()

    def _bytes(self) -> int:
        return sum(pipeline.size_bytes() for pipeline in self._warm.values())


class Pipelines:
    """The models of the catalogue on one device, loaded when they are first asked for."""

    def __init__(
        self, catalogue: Catalogue, *, device: str, cache_dir: Path, most_host_bytes: int
    ) -> None:
        """most_host_bytes bounds the weights kept warm on the CPU; a device has its own bound."""
        self._catalogue = catalogue
        self._device = device
        self._cache_dir = cache_dir
        self._most_host_bytes = most_host_bytes
        self._import: Thread | None = None
        self._engine: DiffusionEngine | None = None
        self._cache: PipelineCache | None = None
        self._agreement: PromptAgreement | None = None
        self._has_no_agreement = catalogue.agreement is None

    def warm_up(self) -> None:
        """Begin to import what loading needs: seconds that the first attempt then need not wait.

        In a thread of its own, so that attempts without a pipeline run at once. What goes wrong is
        told to the attempt that needs a pipeline.
        """
        self._import = Thread(target=_imported_early, name="import", daemon=True)
        self._import.start()

    def get(self, name: str) -> LoadedPipeline:
        """Return the pipeline of a model of the catalogue, as TaskContext.pipeline says."""
        try:
            model = self._catalogue.find(name)
        except UnknownModel as error:
            raise HandlerFailure(FAILURE_REASON_MODEL_NOT_FOUND, str(error)) from error
        return self._ready().get(model)

    def agreement(self) -> PromptAgreement | None:
        """Return what tells how well images agree with words, loaded when it is first asked for.

        None: the catalogue names no model for it, or it cannot be loaded; that is tried once.
        """
        if self._agreement is None and not self._has_no_agreement:
            self._ready()
            self._agreement = self._loaded_agreement()
            self._has_no_agreement = self._agreement is None
        return self._agreement

    def clear(self) -> None:
        """Drop every warm pipeline, as after memory ran out."""
        self._agreement = None
        if self._cache is not None:
            self._cache.clear()

    def reset_peak(self) -> None:
        """Start a new measurement of the device memory held."""
        if self._engine is not None:
            self._engine.reset_peak()

    def peak_bytes(self) -> int:
        """Return the most device memory held since reset_peak."""
        return self._engine.peak_bytes() if self._engine is not None else 0

    def report(self) -> DeviceReport | None:
        """Return how the device is, and what is warm on it; None: it was not used yet."""
        engine, cache = self._engine, self._cache
        if engine is None or cache is None:
            return None
        return DeviceReport(
            product=engine.product(),
            memory_total_bytes=engine.memory_bytes() or 0,
            memory_used_bytes=engine.used_bytes(),
            loaded_models=[*cache.names()][::-1],
        )

    def _ready(self) -> PipelineCache:
        if self._import is not None:
            # Never two threads in one import: they may see modules half made.
            self._import.join()
        if self._cache is None:
            engine = DiffusionEngine(self._device)
            device_bytes = engine.memory_bytes()
            self._engine = engine
            self._cache = PipelineCache(
                lambda model: self._load(engine, model),
                most=MOST_PIPELINES,
                most_bytes=self._most_host_bytes
                if device_bytes is None
                else int(device_bytes * _SHARE_OF_DEVICE),
                release=engine.release,
            )
        return self._cache

    def _loaded_agreement(self) -> PromptAgreement | None:
        model, engine = self._catalogue.agreement, self._engine
        if model is None or engine is None:
            return None
        try:
            return PromptAgreement(model, device=engine.device)
        except Exception as error:  # noqa: BLE001 - a score less, and no attempt that fails
            _log.warning("agreement_not_loaded", error=repr(error))
            return None

    def _load(self, engine: DiffusionEngine, model: Model) -> DiffusersPipeline:
        folder = tiny_model_folder(self._cache_dir) if model.is_built_in else model.path
        if folder is not None and not folder.is_dir():
            raise HandlerFailure(
                FAILURE_REASON_MODEL_NOT_FOUND, f"the folder of model {model.name} is not there"
            )
        try:
            pipeline = engine.load(model, folder=folder)
        except HandlerFailure:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            _log.warning("model_not_loaded", model=model.name, error=repr(error))
            raise _unusable(model, error) from error
        _log.info("model_loaded", model=model.name, device=engine.device, dtype=engine.dtype)
        return pipeline


def _imported_early() -> None:
    try:
        import_libraries()
    except HandlerFailure as error:
        _log.warning("engine_unavailable", reason=error.message)


def _unusable(model: Model, error: Exception) -> HandlerFailure:
    # The words of the libraries name folders of this machine; those are for the log only.
    if model.hub_id is not None and _hub_is_away(error):
        return HandlerFailure(
            FAILURE_REASON_UNAVAILABLE, f"model {model.name} cannot be fetched: the hub is away"
        )
    return HandlerFailure(
        FAILURE_REASON_MODEL_NOT_FOUND,
        f"model {model.name} cannot be loaded: its files are missing, cut off or no safetensors"
        f" ({type(error).__name__})",
    )


def _hub_is_away(error: BaseException) -> bool:
    """Tell whether the hub could not be asked, from the chain of errors of its library."""
    cause: BaseException | None = error
    while cause is not None:
        if type(cause).__name__ in {"LocalEntryNotFoundError", "OfflineModeIsEnabled"}:
            return True
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int) and (status == 429 or status >= 500):
            return True
        if isinstance(cause, ConnectionError | TimeoutError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
