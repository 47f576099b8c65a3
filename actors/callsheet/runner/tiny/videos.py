"""The tiny models that make videos, from words or from an image."""

from callsheet.runner.tiny.parts import (
    LATENT_NOISE,
    autoencoder,
    clip_text_encoder,
    sd_unet,
    t5_text_encoder,
)
from callsheet.runner.tiny.tokenizers import clip_tokenizer, t5_tokenizer
from callsheet.runner.untyped import Untyped, imported


def ltx() -> Untyped:
    """Return a pipeline of LTX-Video: 32 pixels and 8 frames become one latent."""
    diffusers = imported("diffusers")
    return diffusers.LTXPipeline(
        transformer=diffusers.LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            patch_size=1,
            patch_size_t=1,
            num_attention_heads=4,
            attention_head_dim=8,
            cross_attention_dim=32,
            num_layers=2,
            caption_channels=32,
        ),
        vae=_ltx_autoencoder(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=t5_text_encoder(),
        tokenizer=t5_tokenizer(128),
    )


def wan() -> Untyped:
    """Return a pipeline of Wan, from words or from a video."""
    return imported("diffusers").WanPipeline(**_wan_parts(channels=16))


def wan_i2v() -> Untyped:
    """Return a pipeline of Wan from an image, which its denoiser sees beside the noise."""
    return imported("diffusers").WanImageToVideoPipeline(
        **_wan_parts(channels=36), image_encoder=None, image_processor=None
    )


def animatediff() -> Untyped:
    """Return a pipeline of AnimateDiff: Stable Diffusion 1.5 with a sense of motion."""
    diffusers = imported("diffusers")
    return diffusers.AnimateDiffPipeline(
        unet=sd_unet(block_out_channels=(16, 16), norm_num_groups=4),
        vae=autoencoder(),
        text_encoder=clip_text_encoder(),
        tokenizer=clip_tokenizer(),
        motion_adapter=diffusers.MotionAdapter(
            block_out_channels=(16, 16),
            motion_layers_per_block=1,
            motion_norm_num_groups=4,
            motion_num_attention_heads=4,
            use_motion_mid_block=False,
        ),
        scheduler=diffusers.DDIMScheduler(
            **LATENT_NOISE, beta_schedule="linear", clip_sample=False
        ),
    )


def svd() -> Untyped:
    """Return a pipeline of Stable Video Diffusion, from an image."""
    diffusers = imported("diffusers")
    return diffusers.StableVideoDiffusionPipeline(
        unet=diffusers.UNetSpatioTemporalConditionModel(
            block_out_channels=(32, 64),
            layers_per_block=1,
            sample_size=8,
            in_channels=8,
            out_channels=4,
            down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
            cross_attention_dim=32,
            num_attention_heads=(4, 8),
            projection_class_embeddings_input_dim=96,
            addition_time_embed_dim=32,
        ),
        vae=diffusers.AutoencoderKLTemporalDecoder(
            # Its layers normalise 32 channels together: it cannot be narrower.
            block_out_channels=[32, 32, 32, 32],
            in_channels=3,
            out_channels=3,
            latent_channels=4,
            down_block_types=["DownEncoderBlock2D"] * 4,
            layers_per_block=1,
        ),
        image_encoder=_image_encoder(),
        feature_extractor=imported("transformers").CLIPImageProcessor(
            crop_size={"height": 224, "width": 224}, size={"shortest_edge": 224}
        ),
        scheduler=diffusers.EulerDiscreteScheduler(
            **LATENT_NOISE,
            beta_schedule="scaled_linear",
            interpolation_type="linear",
            prediction_type="v_prediction",
            sigma_max=700.0,
            sigma_min=0.002,
            steps_offset=1,
            timestep_spacing="leading",
            timestep_type="continuous",
            use_karras_sigmas=True,
        ),
    )


def _ltx_autoencoder() -> Untyped:
    return imported("diffusers").AutoencoderKLLTXVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, True, False),
        decoder_spatio_temporal_scaling=(True, True, True, False),
        decoder_inject_noise=(False, False, False, False, False),
        upsample_residual=(False, False, False, False),
        upsample_factor=(1, 1, 1, 1),
        timestep_conditioning=False,
        patch_size=4,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )


def _wan_parts(*, channels: int) -> dict[str, Untyped]:
    """Return the parts of a Wan pipeline whose denoiser sees that many channels."""
    diffusers = imported("diffusers")
    return {
        "tokenizer": t5_tokenizer(512),
        "text_encoder": t5_text_encoder("UMT5"),
        "vae": diffusers.AutoencoderKLWan(
            base_dim=4,
            z_dim=16,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
        ),
        "transformer": diffusers.WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=channels,
            out_channels=16,
            text_dim=32,
            freq_dim=32,
            ffn_dim=32,
            num_layers=2,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=32,
        ),
        "scheduler": diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    }


def _image_encoder() -> Untyped:
    transformers = imported("transformers")
    return transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(
            hidden_size=32,
            projection_dim=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=224,  # the pipeline shows it images of this size, whatever it says here
            intermediate_size=37,
            patch_size=32,
        )
    )
