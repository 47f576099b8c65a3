"""`make bench-gpu`: how fast images are on one device, and what the plane adds to a bare loop.

SDXL of its real size with random weights, made on the device: nothing is fetched. Each figure of
ours stands beside one of diffusers alone, on the very same weights, taken in turns in this run. The
result is written after every point, so a run that is cut off keeps what it has.
"""

import argparse
import json
import logging
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import structlog

from callsheet.runner.add_ons import AddOnFiles
from callsheet.runner.attention import BACKENDS, NATIVE
from callsheet.runner.context import HandlerFailure
from callsheet.runner.diffusers_pipeline import DiffusersPipeline
from callsheet.runner.diffusion import DiffusionEngine
from callsheet.runner.failures import is_out_of_memory
from callsheet.runner.rendering import Mode, RenderItem, RenderRequest
from callsheet.runner.tuning import Tuning, TuningRefused
from callsheet.runner.untyped import Untyped, imported
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.device_settings import AttentionName
from callsheet.runtime.models import CompileShape
from tests.gpu.attempts import Attempts
from tests.gpu.costs import CostControls, TimedSink, TimedSlot, milliseconds
from tests.gpu.sdxl import model_of, parameters_of, sdxl, twin_of

REPORT: Final = Path(__file__).parents[2] / "build" / "bench-gpu.json"
EAGER, COMPILED = "eager", "compiled"
_COMPILING: Final = "compiling"
_GUIDANCE: Final = 5.0
_GIB: Final = 2**30
#: Compiling for one batch size takes about so long; what would not fit is left out.
_COMPILE_SECONDS: Final = 45.0


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured, and for how long."""

    device: str
    dtype: str
    is_tiny: bool
    size: int
    steps: int
    batches: tuple[int, ...]
    modes: tuple[str, ...]
    rounds: int
    attention: AttentionName
    channels_last: bool
    compiler: str
    budget: timedelta
    preview_every_steps: int
    checkpoint_period: timedelta
    report: Path


@dataclass
class Report:
    """What was found so far: written after each point."""

    file: Path
    found: dict[str, object] = field(default_factory=dict[str, object])
    points: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    left_out: list[str] = field(default_factory=list[str])

    def note(self, name: str, figures: object) -> None:
        """Keep figures, write and print them."""
        self.found[name] = figures
        self._write(f"{name}: {json.dumps(figures)}")

    def point(self, figures: dict[str, object]) -> None:
        """Keep a point likewise."""
        self.points.append(figures)
        self._write(f"point: {json.dumps(figures)}")

    def leave_out(self, what: str) -> None:
        """Say that something was not measured, and why."""
        self.left_out.append(what)
        self._write(f"LEFT OUT: {what}")

    def _write(self, line: str) -> None:
        whole = {**self.found, "points": self.points, "left_out": self.left_out}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(whole, indent=2) + "\n")
        print(line, flush=True)


class Bench:
    """One run, on one model."""

    def __init__(self, options: Options, report: Report, folder: Path) -> None:
        self._options = options
        self._report = report
        self._folder = folder
        self._end = time.monotonic() + options.budget.total_seconds()
        self._prompts = 0
        self._torch = imported("torch")
        self._tuning = Tuning(attention=options.attention, channels_last=options.channels_last)
        self._engine = DiffusionEngine(options.device, tuning=self._tuning)
        self._attempts = Attempts(
            folder, device=self._engine.device, checkpoint_period=options.checkpoint_period
        )
        self._model = model_of(size=options.size, steps=options.steps)
        self._is_compiled = False
        self._files = AddOnFiles(load_catalogue(None), cache_dir=folder / "cache")
        self._bare: Untyped = None
        self._own: Untyped = None
        self._ours: DiffusersPipeline | None = None

    def run(self) -> None:
        """Measure everything that fits into the budget."""
        self._report.note("machine", self._machine())
        self._build()
        for mode in self._options.modes:
            if mode == COMPILED:
                self._try(_COMPILING, self._compile)
            for batch in self._options.batches:
                self._try(f"{mode}, batch {batch}", partial(self._point, mode, batch))
            if mode == EAGER:
                # Where the steps are as they are by default.
                self._try("checkpoint", self._checkpoint)
                self._try("preview", self._preview)
        self._try("swap", self._swap)

    def _machine(self) -> Mapping[str, object]:
        versions = {name: imported(name).__version__ for name in ("diffusers", "transformers")}
        return {
            "device": self._engine.product() or platform.processor() or "cpu",
            "memory_gib": round((self._engine.memory_bytes() or 0) / _GIB, 1),
            "python": platform.python_version(),
            "torch": self._torch.__version__,
            "cuda": self._torch.version.cuda,
            **versions,
            "dtype": self._options.dtype,
            "size": self._options.size,
            "steps": self._options.steps,
            "channels_last": self._options.channels_last,
            "attention": self._options.attention,
            "is_tiny": self._options.is_tiny,
        }

    def _build(self) -> None:
        start = self._clock()
        options = self._options
        self._own = sdxl(device=self._engine.device, dtype=options.dtype, is_tiny=options.is_tiny)
        seconds = self._clock() - start
        # Before anything of ours is hung on the modules.
        self._bare = twin_of(self._own)
        self._ours = self._loaded(self._own)
        self._report.note(
            "build", {"seconds": round(seconds, 2), "parameters": parameters_of(self._own)}
        )

    def _loaded(
        self, pipeline: Untyped, *, engine: DiffusionEngine | None = None
    ) -> DiffusersPipeline:
        place = (engine or self._engine)._place()  # pyright: ignore[reportPrivateUsage] # for weights that have no files
        return DiffusersPipeline(self._model, pipeline, place=place, files=self._files, folder=None)

    def _compile(self) -> None:
        """Compile the blocks that the denoiser repeats: ours for each batch, as before READY."""
        size = self._options.size
        self._model = replace(
            self._model,
            compile_shapes=tuple(
                CompileShape(width=size, height=size, items=batch)
                for batch in self._options.batches
            ),
        )
        tuning = replace(self._tuning, compiler=self._options.compiler)
        engine = DiffusionEngine(self._options.device, tuning=tuning)
        self._own = twin_of(self._bare)
        self._ours = self._loaded(self._own, engine=engine)
        seconds = self._timed(partial(self._ours.prepare, check=lambda: None, is_time=lambda: True))
        self._bare.unet.compile_repeated_blocks(
            fullgraph=True, dynamic=False, backend=self._options.compiler
        )
        self._is_compiled = True
        batches = len(self._options.batches)
        self._report.note("compile", {"seconds": round(seconds, 2), "shapes": batches})

    def _point(self, mode: str, batch: int) -> None:
        """Take turns: diffusers alone, and a whole attempt of ours."""
        before = self._attempts.checkpoints, self._attempts.previews
        # What is compiled is compiled here, and memory is found.
        first = self._timed(partial(self._render_bare, batch))
        self._timed(partial(self._render, batch))
        self._engine.reset_peak()
        bare: list[float] = []
        ours: list[float] = []
        for _ in range(self._options.rounds):
            if bare and not self._is_time_for(median(bare) + median(ours)):
                break
            bare.append(self._timed(partial(self._render_bare, batch)))
            ours.append(self._timed(partial(self._render, batch)))
            self._attempts.settle()
        ratio = median(one / other for one, other in zip(ours, bare, strict=True))
        self._report.point(
            {
                "mode": mode,
                "batch": batch,
                "rounds": len(ours),
                "images_per_s": round(batch / median(ours), 4),
                "bare_images_per_s": round(batch / median(bare), 4),
                "overhead_percent": round(100 * (ratio - 1), 2),
                "seconds": [round(each, 4) for each in ours],
                "bare_seconds": [round(each, 4) for each in bare],
                "first_seconds": round(first, 2),
                "peak_gib": round(self._engine.peak_bytes() / _GIB, 2),
                "checkpoints": self._attempts.checkpoints - before[0],
                "previews": self._attempts.previews - before[1],
            }
        )

    def _render_bare(self, batch: int) -> None:
        generators = [self._torch.Generator("cpu").manual_seed(seed) for seed in range(batch)]
        self._bare(
            prompt=self._words(batch),
            width=self._options.size,
            height=self._options.size,
            num_inference_steps=self._options.steps,
            guidance_scale=_GUIDANCE,
            generator=generators,
        )

    def _render(self, batch: int) -> None:
        with self._attempts.opened() as context:
            controls = context.controls(preview_every_steps=self._options.preview_every_steps)
            self._pipeline.render(self._request(batch), controls)

    @property
    def _pipeline(self) -> DiffusersPipeline:
        if self._ours is None:
            raise AssertionError("nothing is built yet")
        return self._ours

    def _request(self, batch: int) -> RenderRequest:
        return RenderRequest(
            mode=Mode.TEXT_TO_IMAGE,
            items=tuple(
                RenderItem(words, seed=seed) for seed, words in enumerate(self._words(batch))
            ),
            width=self._options.size,
            height=self._options.size,
            steps=self._options.steps,
            guidance_scale=_GUIDANCE,
        )

    def _words(self, batch: int) -> list[str]:
        """Return words that were not asked for yet: ours would remember what they mean."""
        self._prompts += batch
        return [f"a red fox in the snow, number {self._prompts - n}" for n in range(batch)]

    def _checkpoint(self) -> None:
        """Time each state that is made ready for the store, of an image alone."""
        slot = TimedSlot(self._clock)
        self._pipeline.render(self._request(1), CostControls(checkpoints=slot))
        self._report.note(
            "checkpoint", {"ms": milliseconds(slot.seconds), "bytes": slot.size_bytes}
        )

    def _preview(self) -> None:
        """Time each picture on the way; the first one of a model takes its fitting, too."""
        sink = TimedSink(self._clock)
        ours = self._loaded(twin_of(self._bare))
        ours.render(self._request(1), CostControls(previews=sink))
        first, *others = sink.seconds
        self._report.note(
            "preview",
            {
                "first_ms": milliseconds([first]),
                "ms": milliseconds(others),
                "encode_ms": milliseconds(sink.encode_seconds),
                "bytes": sink.size_bytes,
            },
        )

    def _swap(self) -> None:
        """Give the model up and load it from its files, which the machine has read before."""
        folder = self._folder / "model"
        self._bare.save_pretrained(folder, safe_serialization=True)
        size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
        seconds: list[float] = []
        for _ in range(2):
            start = self._clock()
            self._bare = self._own = self._ours = None
            self._engine.release()
            self._engine.load(self._model, folder=folder, files=self._files)
            seconds.append(self._clock() - start)
        self._report.note(
            "swap",
            {
                "seconds": round(seconds[-1], 3),
                "first_seconds": round(seconds[0], 3),
                "gib": round(size / _GIB, 3),
                "gib_per_s": round(size / _GIB / seconds[-1], 2),
            },
        )

    def _try(self, what: str, measure: Callable[[], None]) -> None:
        """Measure if there is time for it; what does not fit into memory is left out."""
        needed = _COMPILE_SECONDS * len(self._options.batches) if what == _COMPILING else 0.0
        if what.startswith(COMPILED) and not self._is_compiled:
            self._report.leave_out(f"{what}: nothing is compiled")
            return
        if not self._is_time_for(needed):
            self._report.leave_out(f"{what}: the budget is used up")
            return
        try:
            measure()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._report.leave_out(f"{what}: out of memory")
            self._engine.release()

    def _timed(self, work: Callable[[], None]) -> float:
        start = self._clock()
        work()
        return self._clock() - start

    def _clock(self) -> float:
        if self._engine.device != "cpu":
            self._torch.cuda.synchronize()
        return time.perf_counter()

    def _is_time_for(self, seconds: float) -> bool:
        return time.monotonic() + seconds < self._end


def parse(words: Sequence[str]) -> Options:
    """Return the options. Raises SystemExit when they are none."""
    parser = argparse.ArgumentParser(prog="make bench-gpu", description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="")
    parser.add_argument(
        "--tiny", action="store_true", help="does everything run? worthless figures"
    )
    parser.add_argument("--size", type=int, default=0, help="pixels a side")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--modes", nargs="+", choices=(EAGER, COMPILED), default=[EAGER, COMPILED])
    parser.add_argument("--attention", choices=(*BACKENDS,), default=NATIVE)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compiler", default="inductor", help="what torch compiles with")
    parser.add_argument("--rounds", type=int, default=5, help="turns for each point")
    parser.add_argument("--budget", type=float, default=540, help="seconds; no point starts later")
    parser.add_argument("--preview-every-steps", type=int, default=5)
    parser.add_argument("--checkpoint-seconds", type=float, default=1.0, help="the plane's own: 10")
    parser.add_argument("--report", type=Path, default=REPORT, help="where the JSON goes")
    found = parser.parse_args(words)
    return Options(
        device=found.device,
        dtype=found.dtype or ("float32" if found.device == "cpu" else "bfloat16"),
        is_tiny=found.tiny,
        size=found.size or (64 if found.tiny else 1024),
        steps=found.steps or (4 if found.tiny else 30),
        batches=tuple(found.batches),
        modes=tuple(found.modes),
        rounds=found.rounds,
        attention=found.attention,
        channels_last=found.channels_last,
        compiler=found.compiler,
        budget=timedelta(seconds=found.budget),
        preview_every_steps=found.preview_every_steps,
        checkpoint_period=timedelta(seconds=found.checkpoint_seconds),
        report=found.report,
    )


def main(words: Sequence[str]) -> None:
    """Measure, print, and write."""
    options = parse(words)
    # Each checkpoint is logged otherwise, beside the figures.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    try:
        with tempfile.TemporaryDirectory(prefix="callsheet-bench-gpu-") as folder:
            Bench(options, Report(options.report), Path(folder)).run()
    except HandlerFailure as failure:
        sys.exit(f"bench-gpu: {failure.message}")
    except TuningRefused as error:
        sys.exit(f"bench-gpu: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
