"""What several families are made of: text encoders, autoencoders and denoisers, tiny."""

from collections.abc import Sequence

from callsheet.runner.tiny.tokenizers import CLIP_VOCABULARY, T5_VOCABULARY
from callsheet.runner.untyped import Untyped, imported

#: How the noise of Stable Diffusion grows, whatever scheduler walks it.
LATENT_NOISE = {"beta_start": 0.00085, "beta_end": 0.012}


def clip_text_encoder(class_name: str = "CLIPTextModel", *, width: int = 32) -> Untyped:
    """Return a text encoder of CLIP, of the class that is named."""
    transformers = imported("transformers")
    config = transformers.CLIPTextConfig(
        vocab_size=CLIP_VOCABULARY,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=width,
        bos_token_id=CLIP_VOCABULARY - 2,
        eos_token_id=CLIP_VOCABULARY - 1,
        pad_token_id=CLIP_VOCABULARY - 1,
    )
    return getattr(transformers, class_name)(config)


def t5_text_encoder(kind: str = "T5", *, width: int = 32) -> Untyped:
    """Return a text encoder of T5, or of a kind of it that is named, such as UMT5."""
    transformers = imported("transformers")
    return getattr(transformers, f"{kind}EncoderModel")(
        getattr(transformers, f"{kind}Config")(
            vocab_size=T5_VOCABULARY,
            d_model=width,
            d_kv=8,
            d_ff=2 * width,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def autoencoder(
    *, widths: Sequence[int] = (8, 8, 16, 16), channels: int = 4, **settings: object
) -> Untyped:
    """Return an autoencoder of images: each width but the last halves the picture's sides."""
    return imported("diffusers").AutoencoderKL(
        in_channels=3,
        out_channels=3,
        block_out_channels=tuple(widths),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=64,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths),
        **settings,
    )


def sd_unet(**settings: object) -> Untyped:
    """Return a denoiser of Stable Diffusion 1.5, or with settings one that differs in them."""
    shape: dict[str, object] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return imported("diffusers").UNet2DConditionModel(**{**shape, **settings})


def sdxl_unet() -> Untyped:
    """Return a denoiser of SDXL, which also knows sizes and the meaning of the whole prompt."""
    return sd_unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=6 * 8 + 32,
        cross_attention_dim=64,
    )
