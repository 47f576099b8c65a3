"""How a loaded pipeline of diffusers is made to need less memory."""

from collections.abc import Generator
from contextlib import contextmanager

from callsheet.runner.memory_ladder import Economy
from callsheet.runner.untyped import Untyped
from callsheet.runtime.families import Medium
from callsheet.runtime.models import Model


class MemorySavings:
    """The economies of one loaded model."""

    def __init__(self, model: Model, vae: Untyped | None, *, device: str) -> None:
        """*vae* is what decodes its latents. None: it has none."""
        self._vae = vae
        self._device = device
        self._wanted: frozenset[Economy] = frozenset()
        possible: set[Economy] = set()
        makes_pictures = model.traits.medium is not Medium.AUDIO
        if makes_pictures and model.traits.decodes_tiles and not model.vae_tiling:
            possible.add(Economy.TILES)
        if model.traits.decodes_chunks:
            possible.add(Economy.CHUNKS)
        if device != "cpu":
            possible.add(Economy.OFFLOAD)
        self._possible = frozenset(possible)

    @property
    def possible(self) -> frozenset[Economy]:
        """What can be done."""
        return self._possible

    def use(self, economies: frozenset[Economy]) -> None:
        """Do these of the possible ones from now on, and no others.

        How many frames are decoded at once, a request says itself.
        """
        self._wanted = economies & self._possible
        if Economy.TILES in self._possible:
            _set_tiles(self._vae, Economy.TILES in self._wanted)

    @contextmanager
    def offloading(self, pipeline: Untyped) -> Generator[None]:
        """Let a pipeline whose weights are on the host fetch each part that works, if wanted."""
        if Economy.OFFLOAD not in self._wanted:
            yield
            return
        pipeline.enable_model_cpu_offload(device=self._device)
        try:
            yield
        finally:
            pipeline.maybe_free_model_hooks()
            pipeline.remove_all_hooks()


def _set_tiles(vae: Untyped, wanted: object) -> None:
    # Slices are of the batch: one picture is decoded after the other.
    for what in ("tiling", "slicing"):
        turn = getattr(vae, f"{'enable' if wanted else 'disable'}_{what}", None)
        if turn is not None:
            turn()
