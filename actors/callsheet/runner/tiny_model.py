"""The built-in model: an SDXL of half a million random weights, made on first use.

It draws coloured noise that depends on prompt and seed. The code that loads and runs it is the code
that loads and runs the real SDXL: geometry is kept wherever callers can see it (two text encoders,
a factor of 8 between pixels and latents, 77 tokens), only widths and depths are tiny.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Final

from callsheet.runner.untyped import Untyped, imported
from callsheet.runtime.models import TINY_RANDOM

_BYTES: Final = 256
_START: Final = "<|startoftext|>"
_END: Final = "<|endoftext|>"
_VOCABULARY_SIZE: Final = 2 * _BYTES + 2


def tiny_model_folder(cache_dir: Path) -> Path:
    """Return the folder of the built-in model, made when it is not there.

    Two runners may make it at once: each builds its own folder, and the first rename wins.
    """
    folder = cache_dir / "models" / TINY_RANDOM
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{TINY_RANDOM}-", dir=folder.parent))
    try:
        _build().save_pretrained(unfinished, safe_serialization=True)
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _build() -> Untyped:
    torch = imported("torch")
    diffusers = imported("diffusers")
    with torch.random.fork_rng(devices=[]):  # the weights must not depend on what ran before
        torch.manual_seed(0)
        return diffusers.StableDiffusionXLPipeline(
            vae=_vae(diffusers),
            unet=_unet(diffusers),
            text_encoder=_text_encoder("CLIPTextModel"),
            text_encoder_2=_text_encoder("CLIPTextModelWithProjection"),
            tokenizer=_tokenizer(),
            tokenizer_2=_tokenizer(),
            scheduler=diffusers.EulerDiscreteScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                steps_offset=1,
                timestep_spacing="leading",
            ),
        )


def _vae(diffusers: Untyped) -> Untyped:
    return diffusers.AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
    )


def _unet(diffusers: Untyped) -> Untyped:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=6 * 8 + 32,
        cross_attention_dim=64,
        norm_num_groups=8,
    )


def _text_encoder(class_name: str) -> Untyped:
    transformers = imported("transformers")
    config = transformers.CLIPTextConfig(
        vocab_size=_VOCABULARY_SIZE,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=32,
        bos_token_id=_VOCABULARY_SIZE - 2,
        eos_token_id=_VOCABULARY_SIZE - 1,
        pad_token_id=_VOCABULARY_SIZE - 1,
    )
    return getattr(transformers, class_name)(config)


def _tokenizer() -> Untyped:
    """Return a tokenizer that knows every byte and merges none: any text has tokens."""
    transformers = imported("transformers")
    symbols = _byte_symbols()
    pieces = [*symbols, *(f"{symbol}</w>" for symbol in symbols), _START, _END]
    return transformers.CLIPTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=[],
        model_max_length=77,
        pad_token=_END,
    )


def _byte_symbols() -> list[str]:
    """Return the printable letter that stands for each byte in byte-level tokenizers."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(_BYTES) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(_BYTES + i) for i in range(len(others))]
