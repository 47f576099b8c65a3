"""What computes attention: chosen by name for a device, and put on the models that let it be."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from callsheet.runner.untyped import Untyped, imported
from callsheet.runtime.device_settings import AttentionName
from callsheet.runtime.families import Family

NATIVE: Final[AttentionName] = "native"
#: Ours by diffusers' names, which mark as inner what is not the same on every device.
BACKENDS: Final[Mapping[AttentionName, str]] = MappingProxyType(
    {
        "native": NATIVE,
        "native_cudnn": "_native_cudnn",
        "native_efficient": "_native_efficient",
        "native_flash": "_native_flash",
        "native_math": "_native_math",
        "flash": "flash",
        "flash_3": "_flash_3",
        "sage": "sage",
        "xformers": "xformers",
    }
)
#: Their words are of different lengths in one batch, which a mask says; not every kernel takes one.
_MASKED: Final = frozenset({Family.LTX})
#: Of the tensors it is tried with: batch, places, heads, numbers of a head.
_TRIAL: Final = (1, 64, 2, 64)


class Attention:
    """One way to compute attention, on one device in one number format."""

    def __init__(self, name: AttentionName, *, torch: Untyped, device: str, dtype: str) -> None:
        self.name: AttentionName = name
        self._torch = torch
        self._device = device
        self._dtype = dtype

    def refusal(self, *, masked: bool = False) -> str | None:
        """Return why it cannot be computed here, in one line; None: it can.

        It is tried: whether a kernel runs follows from the device, the number format and from what
        is installed, and nobody keeps a list.
        """
        if self.name == NATIVE:
            return None
        torch, dispatch = self._torch, imported("diffusers.models.attention_dispatch")
        mask = torch.ones((_TRIAL[0], 1, _TRIAL[1], _TRIAL[1]), device=self._device).bool()
        one = torch.ones(_TRIAL, device=self._device, dtype=getattr(torch, self._dtype))
        try:
            with torch.inference_mode(), dispatch.attention_backend(BACKENDS[self.name]):
                dispatch.dispatch_attention_fn(one, one, one, attn_mask=mask if masked else None)
            if self._device != "cpu":
                torch.cuda.synchronize(self._device)
        except Exception as error:  # noqa: BLE001 - whatever the kernels of others raise
            return " ".join(str(error).split()) or type(error).__name__
        return None

    def put_on(self, family: Family, parts: Iterable[Untyped]) -> AttentionName:
        """Let parts of a model of the family compute attention so; return the name of what does.

        That is native where they do not let it be chosen, or need a mask that it does not take.
        """
        backend = imported("diffusers.models.attention_dispatch").AttentionBackendName
        is_refused = family in _MASKED and self.refusal(masked=True) is not None
        name: AttentionName = NATIVE if is_refused else self.name
        is_chosen = False
        for part in parts:
            for module in part.modules():
                processor: Untyped = getattr(module, "processor", None)
                if hasattr(processor, "_attention_backend"):
                    # Not set_attention_backend: it also sets it for every model without its own.
                    processor._attention_backend = backend(BACKENDS[name])  # noqa: SLF001 - its place
                    is_chosen = True
        return name if is_chosen else NATIVE
