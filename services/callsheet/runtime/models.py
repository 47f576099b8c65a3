"""The models that tasks may name: what each is and may do, and which is meant by default."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

from callsheet.runtime.families import FAMILIES, Family, Mode, Traits

TINY_RANDOM: Final = "tiny-random"

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")
#: The built-in weights are drawn from a fixed seed; the number grows when they are made otherwise.
_BUILT_IN_PIN: Final = "built-in-1"


class UnknownModel(LookupError):
    """The catalogue has no model, LoRA or ControlNet of that name."""

    def __init__(self, name: str, *, known: Iterable[str], what: str = "model") -> None:
        self.name, self.known, self.what = name, frozenset(known), what
        names = ", ".join(sorted(self.known)) or "none"
        super().__init__(f"there is no {what} {name!r}; the catalogue has: {names}")


class ModelUnfit(ValueError):
    """The catalogue has the model, and it cannot do what is asked of it; the message says why."""

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field
        """Which of the sizes is wrong, by its name as an argument. Empty: none of them."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the files of a model come from: a folder, the hub, or nowhere: it is built in."""

    path: Path | None = None
    """The local folder. None: it comes from the hub, or is built in."""
    hub_id: str | None = None
    """The repository on the hub. None: it is a local folder, or is built in."""
    revision: str = ""
    """The hub revision. Empty: a local folder or a built-in model, which have none."""

    @property
    def is_built_in(self) -> bool:
        """Whether the runner makes the files itself, with random weights."""
        return self.path is None and self.hub_id is None

    @property
    def pin(self) -> str:
        """What, with its name, says for good which weights these are. Empty: they may change.

        A commit of the hub does, and a branch or a tag does not; nor does a local folder.
        """
        if self.is_built_in:
            return _BUILT_IN_PIN
        return f"{self.hub_id}@{self.revision}" if _COMMIT.fullmatch(self.revision) else ""


@dataclass(frozen=True, kw_only=True)
class CompileShape:
    """A shape that a model is compiled for, where a device compiles at all."""

    width: int = 0
    """Pixels; 0 where no pictures are made."""
    height: int = 0
    """Pixels; 0 as above."""
    frames: int = 0
    """Of a video; 0 where none is made."""
    items: int = 1
    """How many share a forward pass."""

    def __str__(self) -> str:
        """Return it for people, and for digests."""
        size = f"{self.width}x{self.height}" if self.width else "sound"
        frames = f", {self.frames} frames" if self.frames else ""
        return f"{self.items} of {size}{frames}"


@dataclass(frozen=True, kw_only=True)
class Model(Origin):
    """One model, what is used when a task does not say, and how far it may go."""

    name: str
    family: Family
    default_width: int
    """Pixels; 0 where no pictures are made, or their size follows from the input."""
    default_height: int
    """Pixels; 0 as above."""
    default_steps: int
    """Denoising steps; 0: the model does not denoise."""
    default_guidance_scale: float
    default_frames: int = 0
    """Frames of a video; 0 where none is made."""
    default_frame_rate: int = 0
    """Frames a second; 0 as above."""
    default_duration: timedelta = timedelta()
    """The length of audio; 0 where it follows from the input, or none is made."""
    sample_rate: int = 0
    """Samples a second of its audio; 0 where none is made."""
    most_width: int = 0
    """The widest picture it may be asked for; 0: as wide as the contract allows."""
    most_height: int = 0
    """The highest picture; 0 as above."""
    most_frames: int = 0
    """The most frames of a video; 0 as above."""
    most_duration: timedelta = timedelta()
    """The longest audio; 0 as above."""
    dtype: str = ""
    """The number format it is served in, by torch's name. Empty: the device's own."""
    vae_tiling: bool = False
    """Whether pictures are decoded in tiles: less memory, and slower."""
    compile_shapes: tuple[CompileShape, ...] = ()
    """What it is compiled for, where a device compiles at all."""

    @property
    def traits(self) -> Traits:
        """What all models of its family have in common."""
        return FAMILIES[self.family]

    @property
    def modes(self) -> frozenset[Mode]:
        """What it can be asked to do."""
        return self.traits.modes

    def check(
        self, *, width: int = 0, height: int = 0, frames: int = 0, duration: timedelta | None = None
    ) -> None:
        """Raise ModelUnfit when it makes no pictures of that size, or nothing of that length.

        What is left out is not looked at.
        """
        multiple, step = self.traits.multiple, self.traits.frames_multiple
        self._check_whole("width", width, step=multiple, most=self.most_width)
        self._check_whole("height", height, step=multiple, most=self.most_height)
        self._check_whole("frames", frames, step=step, more=1, most=self.most_frames)
        if duration is not None and self.most_duration and duration > self.most_duration:
            most = self.most_duration.total_seconds()
            raise ModelUnfit(
                f"model {self.name} takes a duration of at most {most:g} s", field="duration"
            )

    def _check_whole(self, name: str, value: int, *, step: int, most: int, more: int = 0) -> None:
        subject = f"model {self.name} takes a {'number of frames' if more else name}"
        if value and (value - more) % step:
            rule = f"one more than a multiple of {step}" if more else f"a multiple of {step}"
            raise ModelUnfit(f"{subject} that is {rule}; {value} is not", field=name)
        if 0 < most < value:
            raise ModelUnfit(f"{subject} of at most {most}; {value} is more", field=name)


@dataclass(frozen=True, kw_only=True)
class Lora(Origin):
    """A small change to the weights of models of one family."""

    name: str
    family: Family
    file: str = ""
    """The file of its weights in the folder. Empty: the one that is there."""
    least_weight: float = -2.0
    most_weight: float = 2.0

    def check_weight(self, weight: float) -> None:
        """Raise ModelUnfit when it may not bear on a model that strongly."""
        if not self.least_weight <= weight <= self.most_weight:
            raise ModelUnfit(
                f"LoRA {self.name} takes a weight from {self.least_weight:g} to"
                f" {self.most_weight:g}",
                field="weight",
            )


@dataclass(frozen=True, kw_only=True)
class ControlNet(Origin):
    """What makes models of one family follow the lines, the depth or the poses of an image."""

    name: str
    family: Family


@dataclass(frozen=True, kw_only=True)
class AgreementModel(Origin):
    """The model that tells how well an image agrees with its prompt: a CLIP."""


def built_in_model(family: Family) -> Model:
    """Return the built-in model of a family: real geometry, tiny and random weights."""
    traits = FAMILIES[family]
    makes_video, makes_sound = traits.frames > 0, bool(traits.duration)
    return Model(
        name=TINY_RANDOM if family is Family.SDXL else f"tiny-{family}",
        family=family,
        default_width=64 if traits.width else 0,
        default_height=64 if traits.height else 0,
        default_steps=min(traits.steps, 4 if makes_video or makes_sound else 8),
        default_guidance_scale=traits.guidance_scale,
        default_frames=9 if makes_video else 0,
        default_frame_rate=traits.frame_rate,
        default_duration=timedelta(seconds=1) if makes_sound else timedelta(),
        sample_rate=16_000 if traits.sample_rate else 0,
        most_duration=timedelta(seconds=8) if makes_sound else timedelta(),
    )


#: The models that are made where they are first used, and need no file and no network.
BUILT_INS: Final[Mapping[str, Model]] = MappingProxyType(
    {model.name: model for model in map(built_in_model, Family)}
)
BUILT_IN: Final = BUILT_INS[TINY_RANDOM]
BUILT_IN_LORAS: Final[Mapping[str, Lora]] = MappingProxyType(
    {
        name: Lora(name=name, family=family)
        for family in (Family.SD15, Family.SDXL)
        for name in (f"tiny-{family}-lora",)
    }
)
BUILT_IN_CONTROLNETS: Final[Mapping[str, ControlNet]] = MappingProxyType(
    {
        name: ControlNet(name=name, family=family)
        for family in (Family.SD15, Family.SDXL)
        for name in (f"tiny-{family}-controlnet",)
    }
)


@dataclass(frozen=True)
class Catalogue:
    """The models, LoRAs and ControlNets that a task may name."""

    models: Mapping[str, Model]
    default: str
    """The model of a task that names none, and wants an image. Empty: there is none."""
    agreement: AgreementModel | None = None
    """What scores images by their prompts. None: nothing does."""
    defaults: Mapping[Mode, str] = field(default_factory=dict[Mode, str])
    """The model of a task that names none, by what is asked of it; else it is *default*."""
    loras: Mapping[str, Lora] = field(default_factory=dict[str, Lora])
    controlnets: Mapping[str, ControlNet] = field(default_factory=dict[str, ControlNet])

    def find(self, name: str, *, mode: Mode | None = None) -> Model:
        """Return the model of that name; for an empty one the default of the mode.

        Raises:
            UnknownModel: the catalogue does not have it.
            ModelUnfit: it cannot do what the mode asks, or nothing in the catalogue can.
        """
        if mode is None:
            return self._named(name or self.default)
        if not (wanted := name or self.defaults.get(mode, self.default)):
            raise ModelUnfit(f"no model of the catalogue can do {mode}")
        model = self._named(wanted)
        if mode not in model.modes:
            able = sorted(known.name for known in self.models.values() if mode in known.modes)
            raise ModelUnfit(
                f"model {model.name} cannot do {mode}; these can: {', '.join(able) or 'none'}"
            )
        return model

    def find_lora(self, name: str, *, model: Model) -> Lora:
        """Return the LoRA of that name, for a model.

        Raises UnknownModel, and ModelUnfit when it is for models of another family.
        """
        lora = self.loras.get(name)
        if lora is None:
            raise UnknownModel(name, known=self.loras, what="LoRA")
        _check_family(f"LoRA {name}", lora.family, model)
        return lora

    def find_controlnet(self, name: str, *, model: Model) -> ControlNet:
        """Return the ControlNet of that name. Raises as find_lora does."""
        controlnet = self.controlnets.get(name)
        if controlnet is None:
            raise UnknownModel(name, known=self.controlnets, what="ControlNet")
        _check_family(f"ControlNet {name}", controlnet.family, model)
        return controlnet

    def _named(self, name: str) -> Model:
        model = self.models.get(name)
        if model is None:
            raise UnknownModel(name, known=self.models)
        return model


def _check_family(what: str, family: Family, model: Model) -> None:
    if family is not model.family:
        raise ModelUnfit(
            f"{what} is for models of the family {family}; {model.name} is of {model.family}"
        )
