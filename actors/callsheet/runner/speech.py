"""A loaded voice: the LoadedPipeline of the family that reads texts aloud, and takes no steps."""

from collections.abc import Callable
from pathlib import Path

from callsheet.runner.diffusers_pipeline import Place
from callsheet.runner.memory_ladder import Economy
from callsheet.runner.refusals import refused
from callsheet.runner.rendering import RenderControls, Rendered, RenderedItem, RenderRequest
from callsheet.runner.stop_gate import StopGate
from callsheet.runner.untyped import Untyped, imported
from callsheet.runner.weight_moves import bytes_of, to_device, to_host
from callsheet.runtime.families import Mode
from callsheet.runtime.models import Model


class SpeechPipeline:
    """A VITS of transformers."""

    def __init__(self, model: Model, *, place: Place, source: Path | str, dtype: str) -> None:
        """Load it from a folder or the hub; safetensors only.

        Raises whatever transformers does when it is not there, or is no model of this kind.
        """
        transformers = imported("transformers")
        from_there = {
            "revision": model.revision or None,
            "local_files_only": isinstance(source, Path),
        }
        self._model = model
        self._place = place
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(source, **from_there)
        loaded: Untyped = transformers.VitsModel.from_pretrained(
            source, use_safetensors=True, dtype=getattr(place.torch, dtype), **from_there
        )
        self._voice = loaded.eval()
        self._gate = StopGate()
        self._gate.put_into([self._voice], torch=place.torch)

    @property
    def model(self) -> Model:
        """The model it was loaded from."""
        return self._model

    @property
    def modes(self) -> frozenset[Mode]:
        """What it can be asked for."""
        return frozenset({Mode.TEXT_TO_SPEECH})

    def size_bytes(self) -> int:
        """Return how much memory its weights take."""
        return bytes_of([self._voice])

    def largest_part_bytes(self) -> int:
        """Return what its one part takes."""
        return self.size_bytes()

    @property
    def economies(self) -> frozenset[Economy]:
        """It has none: it is small, and works as a whole."""
        return frozenset()

    def economise(self, economies: frozenset[Economy]) -> None:
        """Do nothing, as it has no economies."""

    def prepare(self, *, check: Callable[[], None], is_time: Callable[[], bool]) -> None:
        """Do nothing: no block of it is repeated often enough to be compiled."""

    def to_device(self) -> None:
        """Bring the weights to the device."""
        to_device([self._voice], torch=self._place.torch, device=self._place.device)

    def to_host(self) -> None:
        """Bring the weights to the host."""
        to_host([self._voice], torch=self._place.torch)

    def items_at_once(self, request: RenderRequest) -> int:
        """Return 1: every text is read by itself."""
        self._check(request)
        return 1

    def render(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        """Read every item's prompt aloud, as LoadedPipeline says; each is one forward pass."""
        self._check(request)
        spoken: list[RenderedItem] = []
        with self._gate.guarding(controls.check):
            for item in request.items:
                controls.check()
                spoken.append(self._spoken(item.prompt, seed=item.seed))
        return Rendered(
            tuple(spoken),
            scheduler="",
            sample_rate=int(self._voice.config.sampling_rate),
            versions=self._place.versions,
            tuning={"dtype": str(self._voice.dtype).removeprefix("torch.")},
        )

    def _check(self, request: RenderRequest) -> None:
        if request.mode is not Mode.TEXT_TO_SPEECH:
            raise refused(f"model {self._model.name} cannot do {request.mode}")
        if not request.items:
            raise refused(f"nothing was asked of model {self._model.name}")

    def _spoken(self, words: str, *, seed: int) -> RenderedItem:
        torch = self._place.torch
        tokens = self._tokenizer(words, return_tensors="pt")
        if not tokens["input_ids"].numel():
            raise refused(f"model {self._model.name} can read nothing of the text aloud")
        # Its voice is chosen by chance of the whole process, which is left as it was.
        devices = [] if self._place.device == "cpu" else [self._place.device]
        with torch.random.fork_rng(devices=devices), torch.inference_mode():
            torch.manual_seed(seed)
            waveform = self._voice(**tokens.to(self._place.device)).waveform
        return RenderedItem(audio=waveform.float().cpu().numpy())
