"""The edge to torch and diffusers: their types are not useful, so nothing of them goes further.

Importing this module is cheap; import_libraries takes seconds, and all else needs it.
"""

import gc
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, cast

from callsheet.runner.context import HandlerFailure, Rendered
from callsheet.runner.schedulers import CHOICES, SchedulerChoice, matches_flow
from callsheet.runner.untyped import Untyped, imported
from callsheet.runtime.models import Model
from callsheet.tasks.v1.generate_image_pb2 import Scheduler
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_INVALID_INPUT,
    FAILURE_REASON_MODEL_NOT_FOUND,
    FAILURE_REASON_UNAVAILABLE,
)

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


def import_libraries() -> None:
    """Import torch, diffusers and transformers: seconds, once a process, in any thread.

    Raises HandlerFailure(UNAVAILABLE) when they are not installed.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        imported("torch")
        # A fifth of the time goes into this one name, which pulls in every family.
        _ = imported("diffusers").AutoPipelineForText2Image
        imported("transformers")
    except ImportError as error:
        raise HandlerFailure(
            FAILURE_REASON_UNAVAILABLE, "torch is not installed here: the extra gpu brings it"
        ) from error


class DiffusionEngine:
    """torch and diffusers, set up for one device; made and used by one thread.

    Raises HandlerFailure(UNAVAILABLE) when they are not installed or the device is not there.
    """

    def __init__(self, device: str) -> None:
        import_libraries()
        self._torch = imported("torch")
        self._diffusers = imported("diffusers")
        self._diffusers.utils.logging.disable_progress_bar()
        imported("transformers").utils.logging.disable_progress_bar()
        self.device = self._usable(device)
        self._set_up()

    @property
    def dtype(self) -> str:
        """The name of the number format that models are served in."""
        return "float32" if self.device == "cpu" else "bfloat16"

    def load(self, model: Model, *, folder: Path | None) -> "DiffusersPipeline":
        """Load a model from a folder, or from the hub when there is none; safetensors only.

        Raises HandlerFailure (MODEL_NOT_FOUND, UNAVAILABLE), or whatever says that memory ran out.
        """
        source = str(folder) if folder is not None else model.hub_id
        pipeline: Untyped = self._diffusers.AutoPipelineForText2Image.from_pretrained(
            source,
            revision=model.revision or None,
            dtype=getattr(self._torch, self.dtype),
            use_safetensors=True,
            local_files_only=folder is not None,
        )
        parameters = inspect.signature(type(pipeline).__call__).parameters
        if "callback_on_step_end" not in parameters:
            name = type(pipeline).__name__
            raise HandlerFailure(
                FAILURE_REASON_MODEL_NOT_FOUND,
                f"model {model.name} cannot be served: {name} cannot be stopped between its steps",
            )
        pipeline.set_progress_bar_config(disable=True)
        pipeline.to(self.device)
        return DiffusersPipeline(model, pipeline, torch=self._torch, diffusers=self._diffusers)

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


class DiffusersPipeline:
    """A text-to-image pipeline of diffusers, as the one thread of the runner may use it."""

    def __init__(
        self,
        model: Model,
        pipeline: Untyped,
        *,
        torch: Untyped,
        diffusers: Untyped,
    ) -> None:
        self._model = model
        self._pipeline = pipeline
        self._torch, self._diffusers = torch, diffusers
        self._own_scheduler = pipeline.scheduler
        self._parameters = frozenset(inspect.signature(type(pipeline).__call__).parameters)

    @property
    def model(self) -> Model:
        """The model it was loaded from."""
        return self._model

    def size_bytes(self) -> int:
        """Return how much memory its weights take."""
        components = self._pipeline.components.values()
        modules = [part for part in components if isinstance(part, self._torch.nn.Module)]
        return sum(int(p.nbytes) for module in modules for p in module.parameters())

    def render(
        self,
        prompt: str,
        *,
        negative_prompt: str,
        width: int,
        height: int,
        steps: int,
        guidance_scale: float,
        seed: int,
        scheduler: Scheduler.ValueType,
        on_step: Callable[[int, int], None],
    ) -> Rendered:
        """Draw one image, as LoadedPipeline says."""
        if negative_prompt and "negative_prompt" not in self._parameters:
            raise HandlerFailure(
                FAILURE_REASON_INVALID_INPUT, f"model {self._model.name} takes no negative prompt"
            )
        # A scheduler has state, and the multistep ones remember the last image: never used twice.
        self._pipeline.scheduler = self._fresh_scheduler(scheduler)

        def on_step_end(
            pipeline: Untyped,
            step: int,
            _timestep: object,
            tensors: dict[str, object],
        ) -> dict[str, object]:
            on_step(step + 1, int(pipeline.num_timesteps))
            return tensors

        arguments: dict[str, object] = {
            "prompt": prompt,
            "width": width,
            "height": height,
            "num_inference_steps": steps,
            "guidance_scale": guidance_scale,
            # On the CPU whatever the device: the same noise everywhere.
            "generator": self._torch.Generator("cpu").manual_seed(seed),
            "callback_on_step_end": on_step_end,
        }
        if negative_prompt:
            arguments["negative_prompt"] = negative_prompt
        image = self._pipeline(**arguments).images[0]
        return Rendered(image, scheduler=type(self._pipeline.scheduler).__name__)

    def _fresh_scheduler(self, scheduler: Scheduler.ValueType) -> Untyped:
        own = cast("Untyped", type(self._own_scheduler))
        choice = CHOICES.get(scheduler, SchedulerChoice(own.__name__))
        if choice.class_name == own.__name__:
            return own.from_config(self._own_scheduler.config)
        config = cast("Mapping[str, object]", self._own_scheduler.config)
        if matches_flow(own.__name__, config):
            raise HandlerFailure(
                FAILURE_REASON_INVALID_INPUT,
                f"model {self._model.name} takes no scheduler but its own {own.__name__}",
            )
        wanted = getattr(self._diffusers, choice.class_name)
        return wanted.from_config(config, **choice.overrides)
