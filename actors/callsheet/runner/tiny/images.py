"""The tiny models that make images from words, from images, or larger images of small ones."""

from callsheet.runner.tiny.parts import (
    LATENT_NOISE,
    autoencoder,
    clip_text_encoder,
    sd_unet,
    sdxl_unet,
    t5_text_encoder,
)
from callsheet.runner.tiny.tokenizers import clip_tokenizer, t5_tokenizer
from callsheet.runner.untyped import Untyped, imported


def sd15() -> Untyped:
    """Return a pipeline of Stable Diffusion 1.5."""
    diffusers = imported("diffusers")
    return diffusers.StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        unet=sd_unet(),
        scheduler=diffusers.DDIMScheduler(
            **LATENT_NOISE,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> Untyped:
    """Return a pipeline of SDXL; the order of its parts decides their weights, so its pixels."""
    diffusers = imported("diffusers")
    return diffusers.StableDiffusionXLPipeline(
        vae=autoencoder(),
        unet=sdxl_unet(),
        text_encoder=clip_text_encoder(),
        text_encoder_2=clip_text_encoder("CLIPTextModelWithProjection"),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        scheduler=diffusers.EulerDiscreteScheduler(
            **LATENT_NOISE,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
    )


def sd3() -> Untyped:
    """Return a pipeline of Stable Diffusion 3: three text encoders, and flows."""
    diffusers = imported("diffusers")
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=16,
            out_channels=16,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            pos_embed_max_size=32,
        ),
        vae=_flow_autoencoder(shift_factor=0.0609, scaling_factor=1.5305),
        text_encoder=clip_text_encoder("CLIPTextModelWithProjection", width=16),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text_encoder("CLIPTextModelWithProjection", width=16),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5_text_encoder(),
        tokenizer_3=t5_tokenizer(256),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


def flux() -> Untyped:
    """Return a pipeline of Flux."""
    return _flux("FluxPipeline")


def flux_kontext() -> Untyped:
    """Return a pipeline of Flux Kontext, which edits an image as words say."""
    return _flux("FluxKontextPipeline")


def upscaler() -> Untyped:
    """Return a pipeline of Stable Diffusion's upscaler, which makes an image four times wider."""
    diffusers = imported("diffusers")
    return diffusers.StableDiffusionUpscalePipeline(
        vae=autoencoder(widths=(8, 8, 16), scaling_factor=0.08333),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        # It sees the small image beside the noise, and is told how noisy that was made. Its latents
        # are as large as that image: where they are widest, nothing attends to everything.
        unet=sd_unet(
            in_channels=7,
            num_class_embeds=1000,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        low_res_scheduler=diffusers.DDPMScheduler(
            beta_start=0.0001, beta_end=0.02, beta_schedule="scaled_linear"
        ),
        scheduler=diffusers.DDIMScheduler(
            beta_start=0.0001,
            beta_end=0.02,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
            prediction_type="v_prediction",
        ),
    )


def _flux(class_name: str) -> Untyped:
    diffusers = imported("diffusers")
    return getattr(diffusers, class_name)(
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=1,
            num_single_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            guidance_embeds=True,
            axes_dims_rope=(4, 6, 6),
        ),
        vae=_flow_autoencoder(shift_factor=0.1159, scaling_factor=0.3611),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5_text_encoder(),
        tokenizer_2=t5_tokenizer(512),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            shift=3.0,
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=4096,
        ),
    )


def _flow_autoencoder(*, shift_factor: float, scaling_factor: float) -> Untyped:
    return autoencoder(
        channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=shift_factor,
        scaling_factor=scaling_factor,
    )
