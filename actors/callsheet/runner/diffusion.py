"""The edge to torch and diffusers: their types are not useful, so nothing of them goes further.

Importing this module is cheap; import_libraries takes seconds, and all else needs it.
"""

import gc
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, cast

import structlog

from callsheet.runner.adapters import loading_class
from callsheet.runner.add_ons import AddOnFiles
from callsheet.runner.context import HandlerFailure
from callsheet.runner.diffusers_pipeline import DiffusersPipeline, Place
from callsheet.runner.speech import SpeechPipeline
from callsheet.runner.tuning import Tuner, Tuning
from callsheet.runner.untyped import Untyped, imported
from callsheet.runtime.families import Family
from callsheet.runtime.models import Model
from callsheet.v1.task_pb2 import FAILURE_REASON_UNAVAILABLE

#: Set before the libraries are imported: their bars and advice are no log lines.
_QUIET: Final[Mapping[str, str]] = {
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    # A workspace of fixed size is what makes matrix products on CUDA repeatable.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
#: The libraries that what is rendered depends on.
_LIBRARIES: Final = ("diffusers", "peft", "torch", "transformers")

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@cache
def import_libraries() -> None:
    """Import torch, diffusers and transformers: seconds, once a process, in any thread.

    Raises HandlerFailure(UNAVAILABLE) when they are not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        with _uncollected():
            imported("torch")
            # Half of the time goes into this one name: what the pipelines of all families share.
            _ = imported("diffusers").DiffusionPipeline
            imported("transformers")
    except ImportError as error:
        raise HandlerFailure(
            FAILURE_REASON_UNAVAILABLE, "torch is not installed here: the extra gpu brings it"
        ) from error


class DiffusionEngine:
    """torch and diffusers, set up for one device; made and used by one thread.

    Raises HandlerFailure(UNAVAILABLE) when they are not installed or the device is not there, and
    TuningRefused when it cannot do what the tuning asks for.
    """

    def __init__(self, device: str, *, tuning: Tuning | None = None) -> None:
        """Without *tuning* models run as every device can run them."""
        import_libraries()
        self._torch = imported("torch")
        self._diffusers = imported("diffusers")
        self._diffusers.utils.logging.disable_progress_bar()
        imported("transformers").utils.logging.disable_progress_bar()
        self.device = self._usable(device)
        self._set_up()
        self._tuner = Tuner(tuning or Tuning(), torch=self._torch, device=self.device)
        _log.info("device_set_up", device=self.device, product=self.product(), **self._tuner.told())

    @property
    def dtype(self) -> str:
        """The name of the number format that models are served in."""
        return self._tuner.dtype

    def load(
        self, model: Model, *, folder: Path | None, files: AddOnFiles
    ) -> DiffusersPipeline | SpeechPipeline:
        """Load a model from a folder, or from the hub when there is none; safetensors only.

        Its weights are on the host then, and to_device brings them to where they are used.

        *files* finds its LoRAs and ControlNets. Raises whatever the libraries do when it is not
        there or is none of its family, or whatever says that memory ran out.
        """
        dtype = model.dtype or self.dtype
        if model.family is Family.VITS:
            return SpeechPipeline(
                model, place=self._place(), source=folder or model.hub_id or "", dtype=dtype
            )
        kind = getattr(self._diffusers, loading_class(model.family))
        pipeline: Untyped = kind.from_pretrained(
            model.hub_id if folder is None else str(folder),
            revision=model.revision or None,
            dtype=getattr(self._torch, dtype),
            use_safetensors=True,
            local_files_only=folder is not None,
        )
        pipeline.set_progress_bar_config(disable=True)
        if model.vae_tiling:
            pipeline.vae.enable_tiling()
        return DiffusersPipeline(model, pipeline, place=self._place(), files=files, folder=folder)

    def _place(self) -> Place:
        return Place(
            self._torch,
            self._diffusers,
            device=self.device,
            product=self.product(),
            versions={name: _version(name) for name in _LIBRARIES},
            tuner=self._tuner,
        )

    def memory_bytes(self) -> int | None:
        """Return how much memory the device has of its own; None for the CPU."""
        if self.device == "cpu":
            return None
        return int(self._torch.cuda.get_device_properties(self.device).total_memory)

    def used_bytes(self) -> int:
        """Return how much of the device's memory is taken, by whomever; 0 on the CPU."""
        if self.device == "cpu":
            return 0
        free, total = self._torch.cuda.mem_get_info(self.device)
        return int(total) - int(free)

    def free_bytes(self) -> int:
        """Return how much of the device's memory this process may have, or holds; 0 on the CPU."""
        if self.device == "cpu":
            return 0
        free, _ = self._torch.cuda.mem_get_info(self.device)
        return int(free) + int(self._torch.cuda.memory_reserved(self.device))

    def product(self) -> str:
        """Return what the device's maker calls it; '' for the CPU."""
        return "" if self.device == "cpu" else str(self._torch.cuda.get_device_name(self.device))

    def release(self) -> None:
        """Give memory of dropped pipelines back."""
        gc.collect()
        if self.device != "cpu":
            self._torch.cuda.empty_cache()

    def reset_peak(self) -> None:
        """Start a new measurement of the device memory held."""
        if self.device != "cpu":
            self._torch.cuda.reset_peak_memory_stats(self.device)

    def peak_bytes(self) -> int:
        """Return the most device memory held since reset_peak; 0 on the CPU."""
        return 0 if self.device == "cpu" else int(self._torch.cuda.max_memory_reserved(self.device))

    def _usable(self, device: str) -> str:
        if device == "cpu":
            return device
        name = "cuda:0" if device == "cuda" else device
        if int(name.partition(":")[2]) >= self._torch.cuda.device_count():
            raise HandlerFailure(FAILURE_REASON_UNAVAILABLE, f"there is no device {device} here")
        return name

    def _set_up(self) -> None:
        if "OMP_NUM_THREADS" not in os.environ:
            # Two processes of two threads each ran five times slower than two of one.
            self._torch.set_num_threads(1)
        if self.device != "cpu":
            self._torch.cuda.set_device(self.device)
            self._torch.backends.cudnn.benchmark = False
            self._torch.backends.cudnn.deterministic = True


@contextmanager
def _uncollected() -> Generator[None]:
    """Spare what is imported the garbage collector, which finds nothing in it, then and later."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return ""
