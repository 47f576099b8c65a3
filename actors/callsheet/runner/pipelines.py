"""The models of the catalogue, as handlers get them: loaded when asked for, and kept warm."""

from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import Final, cast

import psutil
import structlog

from callsheet.internal.v1.pipe_pb2 import DeviceReport
from callsheet.runner.add_ons import AddOnFiles
from callsheet.runner.admission import Admission
from callsheet.runner.admitted_pipeline import AdmittedPipeline
from callsheet.runner.agreement import PromptAgreement
from callsheet.runner.context import HandlerFailure
from callsheet.runner.device_memory import DeviceMemory
from callsheet.runner.diffusion import DiffusionEngine, import_libraries
from callsheet.runner.failures import is_out_of_memory
from callsheet.runner.rendering import Mode
from callsheet.runner.shape_warm_up import prepare_models
from callsheet.runner.tiny.folders import folder_of
from callsheet.runner.tuning import Tuning
from callsheet.runner.warm_models import Resident, Warm, WarmLimits, WarmModels
from callsheet.runtime.model_inventory import inventory_item
from callsheet.runtime.models import Catalogue, Model, ModelUnfit, UnknownModel
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_INVALID_INPUT,
    FAILURE_REASON_MODEL_NOT_FOUND,
    FAILURE_REASON_UNAVAILABLE,
)

__all__ = ["MOST_MODELS", "Pipelines", "Warm"]

MOST_MODELS: Final = 16
_SHARE_OF_DEVICE: Final = 0.7  # the rest is for what inference itself needs

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Pipelines:
    """The models of the catalogue on one device, loaded when they are first asked for."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        device: str,
        cache_dir: Path,
        most_host_bytes: int,
        most_device_bytes: int | None = None,
        host_bytes: int | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        """*most_host_bytes* bounds the weights in the host's memory: warm, or put aside there.

        *most_device_bytes* bounds those on a device with its own; None: seven tenths of it.
        *host_bytes* is what the process may take of the host's memory; None: all there is.
        *tuning* is how models run on the device; None: as they do on every device.
        """
        self._catalogue = catalogue
        self._device = device
        self._cache_dir = cache_dir
        self._add_on_files = AddOnFiles(catalogue, cache_dir=cache_dir)
        self._most_host_bytes = most_host_bytes
        self._most_device_bytes = most_device_bytes
        self._host_bytes = host_bytes or psutil.virtual_memory().total
        self._tuning = tuning or Tuning()
        self._import: Thread | None = None
        self._engine: DiffusionEngine | None = None
        self._memory: DeviceMemory | None = None
        self._warm: WarmModels | None = None
        self._admission: Admission | None = None
        self._agreement: PromptAgreement | None = None
        self._has_no_agreement = catalogue.agreement is None

    def warm_up(self, *, limit: timedelta = timedelta(0)) -> None:
        """Begin to import what loading needs: seconds that the first attempt then need not wait.

        In a thread of its own, so that attempts without a pipeline run at once. What goes wrong is
        told to the attempt that needs a pipeline.

        With a tuning that a device may refuse, or that compiles, it is waited for; raises
        TuningRefused. No shape is begun to be compiled after the limit.
        """
        self._import = Thread(target=_imported_early, name="import", daemon=True)
        self._import.start()
        if not (self._tuning.must_be_tried or self._tuning.compiler):
            return
        try:
            warm, _, _ = self._ready()
        except HandlerFailure as error:
            _log.warning("engine_unavailable", reason=error.message)
            return
        if self._tuning.compiler:
            models = [model for model in self._catalogue.models.values() if model.compile_shapes]
            prepare_models(models, warm, limit=limit)

    def get(self, name: str, *, mode: Mode | None = None) -> AdmittedPipeline:
        """Return the pipeline of a model of the catalogue, as TaskContext.pipeline says."""
        try:
            model = self._catalogue.find(name, mode=mode)
        except UnknownModel as error:
            raise HandlerFailure(FAILURE_REASON_MODEL_NOT_FOUND, str(error)) from error
        except ModelUnfit as error:
            raise HandlerFailure(FAILURE_REASON_INVALID_INPUT, str(error)) from error
        warm, memory, admission = self._ready()
        warm.get(model)
        return AdmittedPipeline(model, warm, admission=admission, memory=memory)

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
        """Drop every warm model, as after memory ran out."""
        self._agreement = None
        if self._warm is not None:
            self._warm.clear()

    def reset_peak(self) -> None:
        """Start a new measurement of the device memory held."""
        if self._memory is not None:
            self._memory.reset_peak()

    def peak_bytes(self) -> int:
        """Return the most device memory held since reset_peak."""
        return self._memory.peak_bytes() if self._memory is not None else 0

    def report(self) -> DeviceReport | None:
        """Return how the device is, and what is warm on it; None: it was not used yet."""
        engine, warm = self._engine, self._warm
        if engine is None or warm is None:
            return None
        return DeviceReport(
            product=engine.product(),
            memory_total_bytes=engine.memory_bytes() or 0,
            memory_used_bytes=engine.used_bytes(),
            loaded_models=[*warm.names()][::-1],
        )

    def _ready(self) -> tuple[WarmModels, DeviceMemory, Admission]:
        if self._import is not None:
            # Never two threads in one import: they may see modules half made.
            self._import.join()
        if self._warm is None or self._memory is None or self._admission is None:
            engine = self._engine = DiffusionEngine(self._device, tuning=self._tuning)
            self._memory = DeviceMemory(engine, host_bytes=self._host_bytes)
            self._admission = Admission(self._memory, dtype=engine.dtype)
            self._warm = WarmModels(
                lambda model: self._load(engine, model),
                limits=self._limits(engine.memory_bytes()),
                release=engine.release,
                weigh=lambda model: self._weight_bytes(model, dtype=engine.dtype),
            )
        return self._warm, self._memory, self._admission

    def _limits(self, device_bytes: int | None) -> WarmLimits:
        if device_bytes is None:
            return WarmLimits(models=MOST_MODELS, most_bytes=self._most_host_bytes)
        most = self._most_device_bytes
        if most is None:
            most = int(device_bytes * _SHARE_OF_DEVICE)
        return WarmLimits(models=MOST_MODELS, most_bytes=most, aside_bytes=self._most_host_bytes)

    def _weight_bytes(self, model: Model, *, dtype: str) -> int:
        """Return what the weights of a model will take; 0 when its files are not here yet."""
        files = inventory_item(model, cache_dir=self._cache_dir).files
        return 0 if files is None else files.weight_bytes(model.dtype or dtype)

    def _loaded_agreement(self) -> PromptAgreement | None:
        model, engine = self._catalogue.agreement, self._engine
        if model is None or engine is None:
            return None
        try:
            return PromptAgreement(model, device=engine.device)
        except Exception as error:  # noqa: BLE001 - a score less, and no attempt that fails
            _log.warning("agreement_not_loaded", error=repr(error))
            return None

    def _load(self, engine: DiffusionEngine, model: Model) -> Resident:
        folder = folder_of(model, cache_dir=self._cache_dir)
        if folder is not None and not folder.is_dir():
            raise HandlerFailure(
                FAILURE_REASON_MODEL_NOT_FOUND, f"the folder of model {model.name} is not there"
            )
        try:
            pipeline = engine.load(model, folder=folder, files=self._add_on_files)
        except HandlerFailure:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            _log.warning("model_not_loaded", model=model.name, error=repr(error))
            raise _unusable(model, error) from error
        dtype = model.dtype or engine.dtype
        _log.info("model_loaded", model=model.name, device=engine.device, dtype=dtype)
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
