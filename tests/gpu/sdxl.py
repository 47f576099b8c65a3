"""SDXL with random weights, made where it will run: its real size, or a tiny one.

Random weights cost the same arithmetic and the same memory as trained ones; the images are noise.
"""

import copy
from collections.abc import Iterator
from typing import Final

from callsheet.runner.tiny.images import sdxl as tiny_sdxl
from callsheet.runner.tiny.tokenizers import clip_tokenizer
from callsheet.runner.untyped import Untyped, imported
from callsheet.runtime.families import Family
from callsheet.runtime.models import Model

_SEED: Final = 0
#: Of the real tokenizer, whose last three words these ids are not: the small one makes fewer.
_VOCABULARY: Final = 49_408
_START, _END = 512, 513


def sdxl(*, device: str, dtype: str, is_tiny: bool) -> Untyped:
    """Return a pipeline of diffusers, its parameters drawn on the device in that number format."""
    torch = imported("torch")
    torch.manual_seed(_SEED)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        with torch.device(device):
            pipeline = tiny_sdxl() if is_tiny else _sdxl()
    finally:
        torch.set_default_dtype(before)
    for part in _modules(pipeline):
        part.eval()
    # What was made on the CPU all the same, such as tables of numbers that are no parameters.
    pipeline.to(device=device, dtype=getattr(torch, dtype))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def model_of(*, size: int, steps: int, name: str = "sdxl-random") -> Model:
    """Return what the catalogue would say of it; its files are nowhere."""
    return Model(
        name=name,
        family=Family.SDXL,
        default_width=size,
        default_height=size,
        default_steps=steps,
        default_guidance_scale=5.0,
    )


def twin_of(pipeline: Untyped) -> Untyped:
    """Return a pipeline of its own on the very same weights: what is hung on one is not on it."""
    parts: dict[str, Untyped] = {}
    for name, part in pipeline.components.items():
        if isinstance(part, imported("torch").nn.Module):
            shared = {id(each): each for each in (*part.parameters(), *part.buffers())}
            parts[name] = copy.deepcopy(part, shared)
        else:
            parts[name] = part
    twin = type(pipeline)(**parts)
    twin.set_progress_bar_config(disable=True)
    return twin


def parameters_of(pipeline: Untyped) -> int:
    """Return how many weights it has."""
    return sum(int(p.numel()) for part in _modules(pipeline) for p in part.parameters())


def _modules(pipeline: Untyped) -> Iterator[Untyped]:
    module = imported("torch").nn.Module
    return (part for part in pipeline.components.values() if isinstance(part, module))


def _sdxl() -> Untyped:
    diffusers, transformers = imported("diffusers"), imported("transformers")
    return diffusers.StableDiffusionXLPipeline(
        vae=_autoencoder(),
        unet=_unet(),
        text_encoder=transformers.CLIPTextModel(
            _text_config(768, layers=12, heads=12, activation="quick_gelu")
        ),
        text_encoder_2=transformers.CLIPTextModelWithProjection(
            _text_config(1280, layers=32, heads=20, activation="gelu")
        ),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
        add_watermarker=False,
    )


def _unet() -> Untyped:
    return imported("diffusers").UNet2DConditionModel(
        sample_size=128,
        in_channels=4,
        out_channels=4,
        block_out_channels=(320, 640, 1280),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2048,
        attention_head_dim=(5, 10, 20),
        transformer_layers_per_block=(1, 2, 10),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
    )


def _autoencoder() -> Untyped:
    return imported("diffusers").AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=32,
        sample_size=1024,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        scaling_factor=0.13025,
        # Random weights overflow in no number format; trained ones are told to decode in float32.
        force_upcast=False,
    )


def _text_config(width: int, *, layers: int, heads: int, activation: str) -> Untyped:
    return imported("transformers").CLIPTextConfig(
        vocab_size=_VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        projection_dim=width,
        hidden_act=activation,
        max_position_embeddings=77,
        bos_token_id=_START,
        eos_token_id=_END,
        pad_token_id=_END,
    )
