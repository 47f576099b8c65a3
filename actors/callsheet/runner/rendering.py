"""What handlers ask of a loaded pipeline, whatever its family, and what they get.

Pixels are numpy arrays of uint8 in RGB; sound is float32 between -1 and 1. Importing this module is
light: numpy is named for the types alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, TypeAlias

from callsheet.runtime.families import Mode
from callsheet.runtime.models import Model
from callsheet.tasks.v1.generate_image_pb2 import SCHEDULER_UNSPECIFIED, Scheduler
from callsheet.v1.task_pb2 import ProgressPhase

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Words: TypeAlias = Callable[[int, int], str]
"""Says for people what has been done after a step of so many."""
Pixels: TypeAlias = "NDArray[np.uint8]"
"""One image, height x width x 3; a mask is height x width."""
Frames: TypeAlias = "NDArray[np.uint8]"
"""Images of one size in a row, frames x height x width x 3."""
Waveform: TypeAlias = "NDArray[np.float32]"
"""Sound, channels x samples."""

__all__ = [
    "CheckpointSlot",
    "ControlNetUse",
    "Frames",
    "LoadedPipeline",
    "LoraUse",
    "Mode",
    "Pixels",
    "PreviewSink",
    "RenderControls",
    "RenderItem",
    "RenderRequest",
    "Rendered",
    "RenderedItem",
    "Reproducibility",
    "Waveform",
    "Words",
    "step_of",
]


class Reproducibility(StrEnum):
    """How exactly a request repeated gives the same result."""

    BALANCED = "balanced"
    """All items in one batch: an item is the same to within rounding, whatever the batch is."""
    STRICT = "strict"
    """Every item alone, one after the other: the same to the last bit, whatever the others are."""


@dataclass(frozen=True)
class LoraUse:
    """A LoRA of the catalogue, and how strongly it bears on the weights; 1 is as it was trained."""

    name: str
    weight: float = 1.0


@dataclass(frozen=True)
class ControlNetUse:
    """A ControlNet of the catalogue, and how strongly each item follows its control image."""

    name: str
    scale: float = 1.0


@dataclass(frozen=True, eq=False)
class RenderItem:
    """One thing to make: what is its own in a batch."""

    prompt: str
    seed: int
    """0 to 2^63 - 1: where its random numbers start, on the CPU, whatever the device."""
    negative_prompt: str = ""
    image: "Pixels | None" = None
    """What image_to_image, inpaint, instruct, image_to_video and upscale start from.

    Any size: it is scaled to the request's; upscale takes it as it is.
    """
    mask: "Pixels | None" = None
    """Of inpaint: 255 where the image is painted anew, 0 where it stays; the image's size."""
    video: "Frames | None" = None
    """What video_to_video starts from."""
    control: "Pixels | None" = None
    """What the ControlNet follows; any size."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RenderRequest:
    """What to make. Everything but the items is shared by them.

    What a mode has no use for is left at its default; what a model cannot take is refused.
    """

    mode: Mode
    items: tuple[RenderItem, ...]
    """At least one."""
    width: int = 0
    """In pixels; 0 for sound, and for upscale, whose size follows from its image."""
    height: int = 0
    steps: int = 0
    """Denoising steps; 0 for speech, which has none. A strength makes that share of them."""
    guidance_scale: float = 0.0
    strength: float | None = None
    """0 to 1: how far from its input the result may go. None: the mode has no strength."""
    frames: int = 1
    """Of a video; it must suit the family's multiples."""
    frame_rate: float = 0.0
    """Frames a second that a video model is told to aim at; 0: its own."""
    duration: timedelta = timedelta(0)
    """Of sound."""
    scheduler: Scheduler.ValueType = SCHEDULER_UNSPECIFIED
    """Unspecified: the model's own."""
    loras: tuple[LoraUse, ...] = ()
    controlnet: ControlNetUse | None = None
    reproducibility: Reproducibility = Reproducibility.BALANCED
    most_at_once: int = 0
    """How many items share a forward pass at the most, to need less memory; 0: all that can."""
    frames_at_once: int = 0
    """How many frames are decoded at once, to need less memory; 0: as many as the model's own."""


@dataclass(frozen=True, eq=False)
class RenderedItem:
    """What became of one item: frames (an image is one frame) or sound, never both."""

    frames: "Frames | None" = None
    audio: "Waveform | None" = None
    bucket: int = 1
    """How many items its forward passes carried: the same one gives the same bits."""


@dataclass(frozen=True, eq=False)
class Rendered:
    """What a request gave, its items in their order."""

    items: tuple[RenderedItem, ...]
    scheduler: str
    """The name of the scheduler class that walked the steps. Empty: there were none."""
    sample_rate: int = 0
    """Of sound, in samples a second; 0: there is none."""
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    """The libraries that rendered, by name."""
    tuning: Mapping[str, str] = field(default_factory=dict[str, str])
    """How the model ran on the device: number format, attention, and what else shows in bits."""

    @property
    def bucket(self) -> int:
        """How many items the fullest forward pass carried."""
        return max(item.bucket for item in self.items)


def step_of(step: int, of: int) -> str:
    """Return the words for a step of something that has no more to say."""
    return f"step {step} of {of}"


class CheckpointSlot(Protocol):
    """Where one attempt's rendering keeps its state, and finds that of an attempt before it."""

    def load(self) -> bytes | None:
        """Return the last state saved, of this attempt or an earlier one. None: there is none."""
        ...

    def is_due(self) -> bool:
        """Tell whether enough work has been done since the last state that one should be saved."""
        ...

    def save(self, content: bytes, *, step: int, of: int) -> None:
        """Keep the state after a step; the newest one counts. A store that fails is no error."""
        ...

    def resumed(self, step: int, *, of: int) -> None:
        """Take note that the work goes on behind this step, as the state that was loaded says."""
        ...

    def refuse(self, reason: str) -> None:
        """Say, for people, why a state that was loaded is of no use: the work starts anew."""
        ...


class PreviewSink(Protocol):
    """Takes small pictures of what is being rendered; the newest counts."""

    @property
    def every_steps(self) -> int:
        """After how many steps a picture is wanted; at least 1."""
        ...

    def show(self, pictures: tuple[Pixels, ...], *, step: int, of: int) -> None:
        """Take one picture for each item that is being rendered, or of a frame in its middle."""
        ...


class RenderControls(Protocol):
    """What a rendering tells while it runs, and asks. Called in the inference thread alone."""

    @property
    def checkpoints(self) -> CheckpointSlot | None:
        """Where states are kept. None: nowhere."""
        ...

    @property
    def previews(self) -> PreviewSink | None:
        """Who wants pictures on the way. None: nobody."""
        ...

    def check(self) -> None:
        """Raise TaskStopped when the rendering must stop; asked many times in each step."""
        ...

    def on_step(self, step: int, of: int) -> None:
        """Take note that a step of the request is done, counted from 1 over all its items.

        The first call is with what was done before it begins: 0, or the step of the state it goes
        on from.
        """
        ...

    def remark(self, remark: str) -> None:
        """Take note of something that people should know; it is told with the next step."""
        ...

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Take note of what the rendering spends its time on from now on.

        The walk of the steps is one phase; encoding prompts before it and decoding latents after it
        have no name.
        """
        ...


class LoadedPipeline(Protocol):
    """A model, loaded and warm; the one inference thread uses it."""

    @property
    def model(self) -> Model:
        """The model it was loaded from, with its defaults."""
        ...

    @property
    def modes(self) -> frozenset[Mode]:
        """What it can be asked for."""
        ...

    def render(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        """Make what is asked for; the same request gives the same result, as its reproducibility
        says.

        With a state that belongs to the very same request on the very same model and libraries, it
        goes on after that step, and the result is the same to the last bit as without a pause.

        Raises TaskStopped as controls do, within a step, and HandlerFailure(INVALID_INPUT) for what
        the model refuses; after either, and after any other error, it is as usable as before.
        """
        ...
