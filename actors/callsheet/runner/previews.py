"""Small pictures of what is being rendered, through a map from latents to colours."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, cast

from callsheet.runner.adapters import Layout
from callsheet.runner.rendering import Pixels, RenderRequest
from callsheet.runner.step_controller import Step
from callsheet.runner.untyped import Untyped

#: What the map is fitted to: so many latents of so many places a side, noise of growing strength.
_LATENTS: Final = 4
_SIDE: Final = 16
_WEAKEST: Final = 0.3
_STRONGEST: Final = 1.3
_SEED: Final = 0


@dataclass(frozen=True)
class LatentMap:
    """The straight line through an autoencoder: what colour each channel of a latent stands for."""

    weights: Untyped
    """Channels x 3."""
    bias: Untyped
    """3."""

    def picture(self, latent: Untyped) -> Pixels:
        """Return a latent, channels x height x width, as one pixel for each of its places."""
        weights, bias = (each.to(latent.device) for each in (self.weights, self.bias))
        seen = latent.float().permute(1, 2, 0) @ weights + bias
        shades = (seen / 2 + 0.5).clamp(0, 1).mul(255).round()
        return cast("Pixels", shades.byte().cpu().numpy())


class Previewer:
    """Makes pictures of the latents of one loaded model; the map is fitted when first needed."""

    def __init__(self, pipeline: Untyped, *, torch: Untyped) -> None:
        self._pipeline = pipeline
        self._torch = torch
        self._map: LatentMap | None = None

    def pictures(
        self, request: RenderRequest, step: Step, *, layout: Layout, scheduler: Untyped
    ) -> tuple[Pixels, ...]:
        """Return one picture for each item of a walk, or of the frame in its middle.

        Its pixels are the places of a latent. Empty: there is nothing to see.
        """
        if layout is Layout.SOUND:
            return ()
        with self._torch.no_grad():
            clean = _clean(step, scheduler, torch=self._torch)
            latents = UNPACKED[layout](clean, request, self._pipeline)
            colours = self._fitted()
            return tuple(colours.picture(latent) for latent in latents)

    def _fitted(self) -> LatentMap:
        if self._map is None:
            self._map = fit_latent_map(self._pipeline.vae, torch=self._torch)
        return self._map


def fit_latent_map(vae: Untyped, *, torch: Untyped) -> LatentMap:
    """Return the map whose colours are nearest to what the autoencoder makes of random latents.

    Least squares over a thousand places: it takes one decoding of a small picture.
    """
    channels = int(getattr(vae.config, "latent_channels", None) or vae.config.z_dim)
    generator = torch.Generator("cpu").manual_seed(_SEED)
    latents = torch.randn(_LATENTS, channels, _SIDE, _SIDE, generator=generator)
    latents *= torch.linspace(_WEAKEST, _STRONGEST, _LATENTS).view(-1, 1, 1, 1)
    latents = latents.to(vae.device)
    colours = _decoded(vae, _as_encoded(vae, latents, torch=torch).to(vae.dtype), torch=torch)
    factor = colours.shape[-1] // _SIDE
    colours = torch.nn.functional.avg_pool2d(colours.float(), factor)
    places = latents.permute(0, 2, 3, 1).reshape(-1, channels)
    known = torch.cat([places, torch.ones_like(places[:, :1])], dim=1)
    # In double, on the CPU: the same map wherever it is fitted.
    found = torch.linalg.lstsq(
        known.cpu().double(), colours.permute(0, 2, 3, 1).reshape(-1, 3).cpu().double()
    ).solution
    found = found.float().to(vae.device)
    return LatentMap(found[:-1], found[-1])


def _as_encoded(vae: Untyped, latents: Untyped, *, torch: Untyped) -> Untyped:
    """Return latents as the autoencoder itself has them, not scaled for the steps."""
    config = vae.config
    scaling = getattr(config, "scaling_factor", None) or 1.0
    mean, spread = _statistics(vae)
    if mean is None or spread is None:
        return latents / scaling + (getattr(config, "shift_factor", None) or 0.0)
    shape = (1, -1, 1, 1)
    mean, spread = (
        torch.as_tensor(each, device=latents.device, dtype=latents.dtype).view(shape)
        for each in (mean, spread)
    )
    return latents * spread / scaling + mean


def _statistics(vae: Untyped) -> tuple[Untyped, Untyped]:
    # Some families have them as settings, LTX as buffers.
    for owner in (vae.config, vae):
        mean, spread = getattr(owner, "latents_mean", None), getattr(owner, "latents_std", None)
        if mean is not None and spread is not None:
            return mean, spread
    return None, None


def _decoded(vae: Untyped, latents: Untyped, *, torch: Untyped) -> Untyped:
    """Return what the autoencoder makes of latents, batch x 3 x height x width."""
    name = type(vae).__name__
    with torch.no_grad():
        if name == "AutoencoderKLTemporalDecoder":
            return vae.decode(latents, num_frames=1).sample
        if name == "AutoencoderKL":
            return vae.decode(latents).sample
        more: dict[str, Untyped] = {}
        if getattr(vae.config, "timestep_conditioning", False):
            more["temb"] = torch.zeros(len(latents), device=latents.device, dtype=latents.dtype)
        return vae.decode(latents.unsqueeze(2), **more).sample[:, :, 0]


def _clean(step: Step, scheduler: Untyped, *, torch: Untyped) -> Untyped:
    """Return what the step takes the finished latents to be, or else the latents after it."""
    after = step.result[0]
    if len(step.result) > 1 and isinstance(step.result[1], torch.Tensor):
        return step.result[1]
    if type(scheduler).__name__.startswith("FlowMatch"):
        sigma = scheduler.sigmas[scheduler.step_index - 1]
        return step.sample - sigma.to(step.sample.device) * step.model_output
    # Multistep solvers that foresee the end keep what they foresaw.
    foreseen = getattr(scheduler, "model_outputs", None)
    if foreseen and isinstance(foreseen[-1], torch.Tensor) and foreseen[-1].shape == after.shape:
        return foreseen[-1]
    return after


def _frame(latents: Untyped, _request: RenderRequest, _pipeline: Untyped) -> Untyped:
    return latents


def _middle_of_video(latents: Untyped, _request: RenderRequest, _pipeline: Untyped) -> Untyped:
    return latents[:, :, latents.shape[2] // 2]


def _middle_by_frame(latents: Untyped, _request: RenderRequest, _pipeline: Untyped) -> Untyped:
    return latents[:, latents.shape[1] // 2]


def _unpacked_image(latents: Untyped, request: RenderRequest, pipeline: Untyped) -> Untyped:
    """Undo Flux's packing: two by two places of all channels stand in one row."""
    factor = int(pipeline.vae_scale_factor) * 2
    height, width = request.height // factor, request.width // factor
    batch, _, channels = latents.shape
    packed = latents.view(batch, height, width, channels // 4, 2, 2)
    return packed.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels // 4, height * 2, width * 2)


def _unpacked_video(latents: Untyped, request: RenderRequest, pipeline: Untyped) -> Untyped:
    """Undo LTX's packing, whose patches are single places."""
    factor = int(pipeline.vae_spatial_compression_ratio)
    height, width = request.height // factor, request.width // factor
    batch, places, channels = latents.shape
    frames = places // (height * width)
    video = latents.view(batch, frames, height, width, channels)
    return video[:, frames // 2].permute(0, 3, 1, 2)


#: From latents as they lie to batch x channels x height x width, of a video its middle frame.
UNPACKED: Final[dict[Layout, Callable[[Untyped, RenderRequest, Untyped], Untyped]]] = {
    Layout.IMAGE: _frame,
    Layout.PACKED_IMAGE: _unpacked_image,
    Layout.VIDEO: _middle_of_video,
    Layout.VIDEO_BY_FRAME: _middle_by_frame,
    Layout.PACKED_VIDEO: _unpacked_video,
}
