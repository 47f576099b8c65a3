"""Models that are tuned as on a device, on the CPU: with a compiler that counts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from callsheet.runner.pipelines import Pipelines
from callsheet.runner.tiny.folders import built_in_folder
from callsheet.runner.tuning import Tuning
from callsheet.runner.untyped import Untyped
from callsheet.runtime.families import Family
from callsheet.runtime.models import (
    BUILT_IN_CONTROLNETS,
    BUILT_IN_LORAS,
    Catalogue,
    CompileShape,
    Model,
)
from tests.support.rendering import built_in

NAME = "film"


class CountingCompiler:
    """Compiles nothing, and counts what it was asked to."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Untyped, _inputs: Sequence[Untyped]) -> Callable[..., Untyped]:
        """Return what the graph does."""
        self.graphs += 1
        return graph.forward


def film(family: Family, *shapes: CompileShape, cache_dir: Path, name: str = NAME) -> Model:
    """Return a model of a catalogue whose files are those of the built-in one."""
    model = built_in(family)
    folder = built_in_folder(model.name, cache_dir=cache_dir)
    return replace(model, name=name, path=folder, compile_shapes=shapes)


def tuned_pipelines(
    *models: Model,
    tuning: Tuning,
    cache_dir: Path,
    device: str = "cpu",
    most_bytes: int = 2**30,
    most_device_bytes: int | None = None,
) -> Pipelines:
    """Return the pipelines of a catalogue of these models."""
    catalogue = Catalogue(
        {model.name: model for model in models},
        default=models[0].name,
        loras=BUILT_IN_LORAS,
        controlnets=BUILT_IN_CONTROLNETS,
    )
    return Pipelines(
        catalogue,
        device=device,
        cache_dir=cache_dir,
        most_host_bytes=most_bytes,
        most_device_bytes=most_device_bytes,
        tuning=tuning,
    )
