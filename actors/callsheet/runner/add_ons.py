"""What changes a loaded model for one request: LoRAs on its weights, a ControlNet at its side."""

from collections import OrderedDict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

import structlog

from callsheet.runner.context import HandlerFailure
from callsheet.runner.failures import is_out_of_memory
from callsheet.runner.rendering import ControlNetUse, LoraUse
from callsheet.runner.tiny.folders import folder_of
from callsheet.runner.untyped import Untyped
from callsheet.runner.weights import identity_of
from callsheet.runtime.models import Catalogue, ControlNet, Lora, Model, ModelUnfit, UnknownModel
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_INVALID_INPUT,
    FAILURE_REASON_MODEL_NOT_FOUND,
)

MOST_CONTROLNETS: Final = 2

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class AddOnFiles:
    """Finds the files of the catalogue's LoRAs and ControlNets."""

    def __init__(self, catalogue: Catalogue, *, cache_dir: Path) -> None:
        self._catalogue = catalogue
        self._cache_dir = cache_dir

    def lora(self, use: LoraUse, *, model: Model) -> tuple[Lora, Path | None]:
        """Return a LoRA, and its folder unless it comes from the hub.

        Raises HandlerFailure: MODEL_NOT_FOUND, INVALID_INPUT for one of another family.
        """
        with _refused():
            lora = self._catalogue.find_lora(use.name, model=model)
            lora.check_weight(use.weight)
        return lora, self._folder(lora)

    def controlnet(self, use: ControlNetUse, *, model: Model) -> tuple[ControlNet, Path | None]:
        """Return a ControlNet, and its folder as above. Raises as lora does."""
        with _refused():
            controlnet = self._catalogue.find_controlnet(use.name, model=model)
        return controlnet, self._folder(controlnet)

    def _folder(self, wanted: Lora | ControlNet) -> Path | None:
        folder = folder_of(wanted, cache_dir=self._cache_dir)
        if folder is not None and not folder.exists():
            raise HandlerFailure(
                FAILURE_REASON_MODEL_NOT_FOUND, f"the folder of {wanted.name} is not there"
            )
        return folder


class AddOns:
    """The LoRAs and ControlNets of one loaded model.

    LoRAs stay on the weights until a request wants others; taken off, the weights are the very same
    as before.
    """

    def __init__(
        self, model: Model, pipeline: Untyped, *, files: AddOnFiles, diffusers: Untyped
    ) -> None:
        self._model = model
        self._pipeline = pipeline
        self._files = files
        self._diffusers = diffusers
        self._worn: tuple[str, ...] = ()
        self._controlnets: OrderedDict[str, Untyped] = OrderedDict()

    def identities(
        self, loras: Sequence[LoraUse], controlnet: ControlNetUse | None
    ) -> tuple[str, ...]:
        """Return what names the weights of all these for good. Raises as AddOnFiles does."""
        found = [identity_of(*self._files.lora(use, model=self._model)) for use in loras]
        if controlnet is not None:
            found.append(identity_of(*self._files.controlnet(controlnet, model=self._model)))
        return tuple(found)

    def wear(self, loras: Sequence[LoraUse]) -> None:
        """Put these LoRAs on the weights, and no others. Raises HandlerFailure."""
        names = tuple(use.name for use in loras)
        if names != self._worn:
            self._take_off()
            self._worn = names
            for use in loras:
                self._put_on(use)
        if names:
            self._pipeline.set_adapters(
                [_adapter(name) for name in names], [use.weight for use in loras]
            )

    def controlnet(self, use: ControlNetUse) -> Untyped:
        """Return a ControlNet, loaded when it is not warm. Raises HandlerFailure."""
        if (loaded := self._controlnets.get(use.name)) is None:
            found, folder = self._files.controlnet(use, model=self._model)
            with _loading(found.name):
                loaded = self._diffusers.ControlNetModel.from_pretrained(
                    found.hub_id if folder is None else str(folder),
                    revision=found.revision or None,
                    torch_dtype=self._pipeline.dtype,
                    use_safetensors=True,
                    local_files_only=folder is not None,
                )
                loaded.to(self._pipeline.device)
            self._controlnets[use.name] = loaded
            if len(self._controlnets) > MOST_CONTROLNETS:
                self._controlnets.popitem(last=False)
        self._controlnets.move_to_end(use.name)
        return loaded

    def modules(self) -> Sequence[Untyped]:
        """Return the ControlNets that are warm."""
        return tuple(self._controlnets.values())

    def _put_on(self, use: LoraUse) -> None:
        found, folder = self._files.lora(use, model=self._model)
        try:
            with _loading(found.name):
                self._pipeline.load_lora_weights(
                    found.hub_id if folder is None else str(folder),
                    adapter_name=_adapter(found.name),
                    weight_name=found.file or None,
                    revision=found.revision or None,
                    use_safetensors=True,
                    local_files_only=folder is not None,
                )
        except BaseException:
            self._take_off()
            raise

    def _take_off(self) -> None:
        if self._worn:
            self._worn = ()
            self._pipeline.unload_lora_weights()


def _adapter(name: str) -> str:
    # A part of names of modules, where a dot would begin another one.
    return name.replace(".", "_")


@contextmanager
def _refused() -> Generator[None]:
    try:
        yield
    except UnknownModel as error:
        raise HandlerFailure(FAILURE_REASON_MODEL_NOT_FOUND, str(error)) from error
    except ModelUnfit as error:
        raise HandlerFailure(FAILURE_REASON_INVALID_INPUT, str(error)) from error


@contextmanager
def _loading(name: str) -> Generator[None]:
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        # The words of the libraries name folders of this machine; those are for the log only.
        _log.warning("add_on_not_loaded", add_on=name, error=repr(error))
        raise HandlerFailure(
            FAILURE_REASON_MODEL_NOT_FOUND,
            f"{name} cannot be loaded: its files are missing, cut off or no safetensors, or it does"
            f" not fit the model ({type(error).__name__})",
        ) from error
    _log.info("add_on_loaded", add_on=name)
