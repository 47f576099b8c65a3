"""A digest of everything that a rendering's result follows from."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from callsheet.runner.rendering import RenderItem, RenderRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Ground:
    """What a rendering stands on besides its request."""

    weights: tuple[str, ...]
    """What names the weights of the model, and of what is added to it, for good."""
    pipeline: str
    """The class that runs."""
    scheduler: str
    """The class that walks the steps."""
    scheduler_config: Mapping[str, object]
    device: str
    """Its kind; for bits, what its maker calls it."""
    dtype: str
    versions: Mapping[str, str]
    """The libraries."""
    tuning: Mapping[str, str] = field(default_factory=dict[str, str])
    """How the model runs on the device."""


def digest_of(request: RenderRequest, ground: Ground) -> str:
    """Return the digest: another one means that a state of the other is of no use here."""
    told = {
        "request": {
            "mode": request.mode,
            "items": [_told(item) for item in request.items],
            "width": request.width,
            "height": request.height,
            "steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "strength": request.strength,
            "frames": request.frames,
            "frame_rate": request.frame_rate,
            "duration": request.duration.total_seconds(),
            "scheduler": int(request.scheduler),
            "loras": [[use.name, use.weight] for use in request.loras],
            "controlnet": (
                None
                if request.controlnet is None
                else [request.controlnet.name, request.controlnet.scale]
            ),
            "reproducibility": request.reproducibility,
            "most_at_once": request.most_at_once,
        },
        "weights": ground.weights,
        "pipeline": ground.pipeline,
        "scheduler": ground.scheduler,
        # What begins with _ is the library's own, and lists in it have no order.
        "scheduler_config": {
            name: value
            for name, value in ground.scheduler_config.items()
            if not name.startswith("_")
        },
        "device": ground.device,
        "dtype": ground.dtype,
        "versions": dict(ground.versions),
        "tuning": dict(ground.tuning),
    }
    # A configuration may hold arrays and the like: as text they tell the same.
    content = json.dumps(told, sort_keys=True, default=repr)
    return hashlib.sha256(content.encode()).hexdigest()


def _told(item: RenderItem) -> list[object]:
    inputs = (item.image, item.mask, item.video, item.control)
    return [item.prompt, item.negative_prompt, item.seed, *map(_pixels_told, inputs)]


def _pixels_told(pixels: "NDArray[np.uint8] | None") -> list[object] | None:
    if pixels is None:
        return None
    shape = cast("tuple[int, ...]", pixels.shape)
    return [list(shape), hashlib.sha256(pixels.tobytes()).hexdigest()]
