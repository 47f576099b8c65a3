"""A loaded model of diffusers, in every mode of its family."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, cast

from callsheet.runner.adapters import ADAPTERS, Use
from callsheet.runner.add_ons import AddOnFiles, AddOns
from callsheet.runner.failures import is_out_of_memory
from callsheet.runner.memory_ladder import Economy
from callsheet.runner.memory_savings import MemorySavings
from callsheet.runner.previews import Previewer
from callsheet.runner.refusals import check_request, refused
from callsheet.runner.render_state import RenderState
from callsheet.runner.rendering import (
    RenderControls,
    Rendered,
    RenderedItem,
    RenderRequest,
    Reproducibility,
)
from callsheet.runner.request_digest import Ground, digest_of
from callsheet.runner.schedulers import CHOICES, SchedulerChoice, matches_flow
from callsheet.runner.shape_warm_up import ShapeWarmUp
from callsheet.runner.stop_gate import StopGate
from callsheet.runner.text_cache import TextCache
from callsheet.runner.tuning import Tuner
from callsheet.runner.untyped import Untyped
from callsheet.runner.walking import Pace, Walker, walks_of
from callsheet.runner.weight_moves import bytes_of, to_device, to_host
from callsheet.runner.weights import identity_of
from callsheet.runtime.families import Medium, Mode
from callsheet.runtime.models import Model
from callsheet.tasks.v1.generate_image_pb2 import Scheduler
from callsheet.v1.task_pb2 import PROGRESS_PHASE_LOADING, PROGRESS_PHASE_UNSPECIFIED

#: What schedulers call the seed of noise that they make from nothing that a request gives them.
_NOISE_SEED: Final = "noise_sampler_seed"


@dataclass(frozen=True)
class Place:
    """Where models run, and with what."""

    torch: Untyped
    diffusers: Untyped
    device: str
    product: str
    """What the device's maker calls it; '' for the CPU."""
    versions: Mapping[str, str]
    """The libraries."""
    tuner: Tuner


class DiffusersPipeline:
    """A model, loaded: the LoadedPipeline of all families that denoise."""

    def __init__(
        self,
        model: Model,
        pipeline: Untyped,
        *,
        place: Place,
        files: AddOnFiles,
        folder: Path | None,
    ) -> None:
        """*pipeline* is of the family's first class, on its device; *folder* has its files."""
        self._model = model
        self._base = pipeline
        self._place = place
        self._own_scheduler = pipeline.scheduler
        self._add_ons = AddOns(model, pipeline, files=files, diffusers=place.diffusers)
        self._identity = identity_of(model, folder)
        self._previewer = Previewer(pipeline, torch=place.torch)
        self._pipelines: dict[str, Untyped] = {type(pipeline).__name__: pipeline}
        self._savings = MemorySavings(model, getattr(pipeline, "vae", None), device=place.device)
        self._gate = StopGate()
        self._gate.put_into(self._modules(), torch=place.torch)
        self._tuned = place.tuner.tuned(model, pipeline, gate=self._gate)
        self._warm_up = ShapeWarmUp(model, self._tuned.blocks)
        #: How far the last rendering was when memory ran out for it.
        self._kept: RenderState | None = None
        self._words = TextCache(place.torch)
        self._words.put_before(
            {
                name: part
                for name, part in self._components().items()
                if name.startswith("text_encoder") and part is not None
            }
        )

    @property
    def model(self) -> Model:
        """The model it was loaded from."""
        return self._model

    @property
    def modes(self) -> frozenset[Mode]:
        """What it can be asked for."""
        return frozenset(ADAPTERS[self._model.family])

    def size_bytes(self) -> int:
        """Return how much memory its weights take, and those of what was added to it."""
        return bytes_of(self._all_modules())

    def largest_part_bytes(self) -> int:
        """Return what the weights of its largest part take."""
        return max(bytes_of([module]) for module in self._all_modules())

    @property
    def economies(self) -> frozenset[Economy]:
        """What it can do to need less memory."""
        return self._savings.possible

    def economise(self, economies: frozenset[Economy]) -> None:
        """Do these in the renderings from now on, and no others."""
        self._savings.use(economies)

    def to_device(self) -> None:
        """Bring the weights to the device."""
        to_device(self._all_modules(), torch=self._place.torch, device=self._place.device)

    def to_host(self) -> None:
        """Bring the weights to the host."""
        to_host(self._all_modules(), torch=self._place.torch)

    def items_at_once(self, request: RenderRequest) -> int:
        """Return how many items at the most share a forward pass; refuses as render does."""
        use = self._use(request)
        check_request(request, self._model, use)
        return max(len(walk) for walk in walks_of(request, use, one_by_one=False))

    def prepare(self, *, check: Callable[[], None], is_time: Callable[[], bool]) -> None:
        """Have it compiled for what the catalogue names, as far as there is time."""
        self._warm_up.run(self._rendered, check=check, is_time=is_time)

    def render(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        """Make what is asked for, as LoadedPipeline says."""
        check_request(request, self._model, self._use(request))
        if self._warm_up.is_pending:
            controls.enter(PROGRESS_PHASE_LOADING)
            self._warm_up.run(self._rendered, check=controls.check)
        return self._rendered(request, controls)

    def _rendered(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        use = self._use(request)
        scheduler = self._fresh_scheduler(request.scheduler, seed=0)
        controls.check()
        controls.enter(PROGRESS_PHASE_LOADING)
        pipeline = self._with_add_ons(request, use)
        controls.enter(PROGRESS_PHASE_UNSPECIFIED)
        pace = Pace(
            pipeline,
            use,
            scheduler=partial(self._fresh_scheduler, request.scheduler),
            torch=self._place.torch,
            digest=self._digest(request, use, scheduler),
            previewer=self._previewer,
        )
        walks = walks_of(request, use, one_by_one=_NOISE_SEED in scheduler.config)
        kept, self._kept = self._kept, None
        with (
            self._gate.guarding(controls.check),
            self._words.closed() if request.loras else nullcontext(),
            self._computing(request),
            self._savings.offloading(pipeline),
        ):
            items = self._walked(Walker(request, controls, pace, walks=walks, kept=kept))
        return Rendered(
            items,
            scheduler=type(scheduler).__name__,
            sample_rate=self._sample_rate(),
            versions=self._place.versions,
            tuning=self._told(request),
        )

    def _computing(self, request: RenderRequest) -> AbstractContextManager[None]:
        """Let blocks be computed as they are compiled, unless LoRAs are in them."""
        blocks = self._tuned.blocks
        return blocks.bypassed() if blocks is not None and request.loras else nullcontext()

    def _told(self, request: RenderRequest) -> Mapping[str, str]:
        """Return how the model runs for a request."""
        dtype = str(self._base.dtype).removeprefix("torch.")
        shapes = () if request.loras else self._warm_up.compiled
        compiled = "; ".join(sorted(map(str, shapes)))
        return {**self._tuned.told(dtype=dtype), "compiled": compiled or "nothing"}

    def _walked(self, walker: Walker) -> tuple[RenderedItem, ...]:
        """Render; what was done until memory ran out is kept for the next try."""
        try:
            return walker.rendered()
        except Exception as error:
            if is_out_of_memory(error):
                self._kept = walker.newest
            raise

    def _use(self, request: RenderRequest) -> Use:
        use = ADAPTERS[self._model.family].get(request.mode)
        if use is None:
            raise refused(f"model {self._model.name} cannot do {request.mode}")
        if request.controlnet is None:
            return use
        if use.controlled is None:
            raise refused(f"model {self._model.name} takes no ControlNet for {request.mode}")
        return use.controlled

    def _with_add_ons(self, request: RenderRequest, use: Use) -> Untyped:
        """Return the pipeline of a use, with what the request adds to the model."""
        if request.loras and not self._model.traits.takes_loras:
            raise refused(f"model {self._model.name} takes no LoRAs")
        self._add_ons.wear(request.loras)
        if request.controlnet is None:
            return self._sharing(use)
        controlnet = self._add_ons.controlnet(request.controlnet)
        self._gate.put_into([controlnet], torch=self._place.torch)
        self._tuned.lay_out(controlnet)
        return self._made(use, controlnet=controlnet)

    def _sharing(self, use: Use) -> Untyped:
        """Return the pipeline of a use, which has its parts in common with all others."""
        if (pipeline := self._pipelines.get(use.pipeline)) is None:
            pipeline = self._pipelines[use.pipeline] = self._made(use)
        return pipeline

    def _made(self, use: Use, **more: Untyped) -> Untyped:
        # Not from_pipe: that casts every part to one number format.
        kind = getattr(self._place.diffusers, use.pipeline)
        settings = cast("Mapping[str, object]", self._base.config)
        given = {**settings, **self._components()}
        taken = {
            name: given[name]
            for name in inspect.signature(kind.__init__).parameters
            if name in given and name not in more
        }
        pipeline = kind(**taken, **more)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _digest(self, request: RenderRequest, use: Use, scheduler: Untyped) -> str:
        strict = request.reproducibility is Reproducibility.STRICT
        place = self._place
        kind = place.device.partition(":")[0]
        added = self._add_ons.identities(request.loras, request.controlnet)
        ground = Ground(
            weights=(self._identity, *added),
            pipeline=use.pipeline,
            scheduler=type(scheduler).__name__,
            scheduler_config=cast("Mapping[str, object]", scheduler.config),
            device=f"{kind} {place.product}" if strict else kind,
            dtype=str(self._base.dtype),
            versions=place.versions,
            tuning=self._told(request),
        )
        return digest_of(request, ground)

    def _fresh_scheduler(self, scheduler: Scheduler.ValueType, seed: int) -> Untyped:
        # A scheduler has state, and the multistep ones remember the last walk: never used twice.
        own = cast("Untyped", type(self._own_scheduler))
        choice = CHOICES.get(scheduler, SchedulerChoice(own.__name__))
        config = cast("Mapping[str, object]", self._own_scheduler.config)
        seeded = {_NOISE_SEED: seed} if _NOISE_SEED in config else {}
        if choice.class_name == own.__name__:
            return own.from_config(config, **seeded)
        if matches_flow(own.__name__, config):
            raise refused(f"model {self._model.name} takes no scheduler but its own {own.__name__}")
        wanted = getattr(self._place.diffusers, choice.class_name)
        return wanted.from_config(config, **choice.overrides)

    def _sample_rate(self) -> int:
        if self._model.traits.medium is not Medium.AUDIO:
            return 0
        return int(self._base.vae.config.sampling_rate)

    def _components(self) -> Mapping[str, Untyped]:
        return cast("Mapping[str, Untyped]", self._base.components)

    def _all_modules(self) -> list[Untyped]:
        return [*self._modules(), *self._add_ons.modules()]

    def _modules(self) -> list[Untyped]:
        module = self._place.torch.nn.Module
        return [part for part in self._components().values() if isinstance(part, module)]
