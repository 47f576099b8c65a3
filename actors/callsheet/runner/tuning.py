"""How models run on a device: what is chosen for speed, and shows in the last bits."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from callsheet.runner.attention import NATIVE, Attention
from callsheet.runner.compiled_blocks import Backend, CompiledBlocks, set_up_compiler
from callsheet.runner.stop_gate import StopGate
from callsheet.runner.untyped import Untyped
from callsheet.runtime.device_settings import AttentionName, DeviceSettings, NumberFormat
from callsheet.runtime.models import Model

#: What families call the modules that denoise, and those whose layers are convolutions.
_DENOISERS: Final = ("unet", "transformer", "transformer_2")
_CONVOLVING: Final = ("unet", "vae")
#: Dimensions of a convolution over frames, for which there is another order.
_OVER_FRAMES: Final = 5


class TuningRefused(Exception):
    """The device, or what is installed, cannot do what the settings ask for."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is asked for. The default is what every device can do."""

    dtype: NumberFormat = "auto"
    attention: AttentionName = NATIVE
    channels_last: bool = False
    compiler: Backend | None = None
    """What compiles the blocks that models repeat. None: nothing does."""
    compiler_cache: Path | None = None
    """Where what was compiled is kept for the next process. None: where torch does."""

    @classmethod
    def of(cls, settings: DeviceSettings, *, device: str, cache_dir: Path) -> "Tuning":
        """Return what the settings ask for on a device: on the CPU nothing."""
        if device == "cpu":
            return cls()
        return cls(
            dtype=settings.dtype,
            attention=settings.attention,
            channels_last=settings.channels_last,
            compiler=None if settings.compile == "off" else "inductor",
            compiler_cache=cache_dir / "compiled",
        )

    @property
    def must_be_tried(self) -> bool:
        """Whether a device may refuse it."""
        return self.dtype != "auto" or self.attention != NATIVE


@dataclass(frozen=True)
class Tuned:
    """What was done to one loaded model."""

    attention: AttentionName
    channels_last: bool
    blocks: CompiledBlocks | None
    """None: nothing is compiled."""
    torch: Untyped

    def lay_out(self, part: Untyped) -> None:
        """Lay out a part that was added to the model as its own are."""
        if self.channels_last:
            _with_channels_last([part], torch=self.torch)

    def told(self, *, dtype: str) -> Mapping[str, str]:
        """Return what the last bits follow from, besides what was compiled."""
        order = "channels_last" if self.channels_last else "contiguous"
        return {"attention": self.attention, "dtype": dtype, "memory_format": order}


class Tuner:
    """Tunes the models of one device; raises TuningRefused for what it cannot do."""

    def __init__(self, tuning: Tuning, *, torch: Untyped, device: str) -> None:
        self._tuning = tuning
        self._torch = torch
        self.dtype = self._usable_dtype(device)
        self._attention = Attention(tuning.attention, torch=torch, device=device, dtype=self.dtype)
        if reason := self._attention.refusal():
            raise TuningRefused(
                f"CALLSHEET_ATTENTION: {tuning.attention} cannot be computed on {device} in"
                f" {self.dtype}: {reason}"
            )
        if tuning.compiler is not None:
            if tuning.compiler_cache is not None:
                os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(tuning.compiler_cache))
            set_up_compiler(torch)

    def told(self) -> Mapping[str, str | bool]:
        """Return how models run here, for the log."""
        return {
            "dtype": self.dtype,
            "attention": self._attention.name,
            "channels_last": self._tuning.channels_last,
            "compile": "off" if self._tuning.compiler is None else "regional",
        }

    def tuned(self, model: Model, pipeline: Untyped, *, gate: StopGate) -> Tuned:
        """Tune a model whose weights are on the host yet; *gate* is in its blocks already."""
        denoisers = _parts(pipeline, _DENOISERS)
        is_laid_out = self._tuning.channels_last and _with_channels_last(
            _parts(pipeline, _CONVOLVING).values(), torch=self._torch
        )
        attention = self._attention.put_on(model.family, denoisers.values())
        blocks: CompiledBlocks | None = None
        if self._tuning.compiler is not None and model.compile_shapes:
            blocks = CompiledBlocks(
                denoisers.values(), gate=gate, torch=self._torch, backend=self._tuning.compiler
            )
        return Tuned(attention, is_laid_out, blocks, self._torch)

    def _usable_dtype(self, device: str) -> str:
        if device == "cpu":
            return "float32" if self._tuning.dtype == "auto" else self._tuning.dtype
        # Not where it is only imitated: float16 is faster there.
        has_bfloat16 = self._torch.cuda.is_bf16_supported(including_emulation=False)
        if self._tuning.dtype == "auto":
            return "bfloat16" if has_bfloat16 else "float16"
        if self._tuning.dtype == "bfloat16" and not has_bfloat16:
            raise TuningRefused(f"CALLSHEET_DTYPE: {device} does not compute in bfloat16")
        return self._tuning.dtype


def _parts(pipeline: Untyped, names: tuple[str, ...]) -> dict[str, Untyped]:
    found = {name: getattr(pipeline, name, None) for name in names}
    return {name: part for name, part in found.items() if part is not None}


def _with_channels_last(parts: Iterable[Untyped], *, torch: Untyped) -> bool:
    """Lay out the parts that convolve images, and tell whether there are any."""
    able = [
        part
        for part in parts
        if {4} <= (dimensions := {each.dim() for each in part.parameters()})
        and _OVER_FRAMES not in dimensions
    ]
    for part in able:
        part.to(memory_format=torch.channels_last)
    return bool(able)
