"""The tiny models that make sound: music from words, and speech."""

import json
import tempfile
from pathlib import Path

from callsheet.runner.tiny.parts import t5_text_encoder
from callsheet.runner.tiny.tokenizers import SPEECH_VOCABULARY, speech_vocabulary, t5_tokenizer
from callsheet.runner.untyped import Untyped, imported

_RATE = 16_000


def stable_audio() -> Untyped:
    """Return a pipeline of Stable Audio: stereo, at most 8.192 seconds."""
    diffusers = imported("diffusers")
    # Named by its own module alone.
    projection = imported("diffusers.pipelines.stable_audio").StableAudioProjectionModel
    return diffusers.StableAudioPipeline(
        transformer=diffusers.StableAudioDiTModel(
            # In latents, of which a second has 16000 / (2 * 4 * 4 * 8) = 62.5.
            sample_size=512,
            in_channels=8,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            num_key_value_attention_heads=2,
            out_channels=8,
            cross_attention_dim=16,
            time_proj_dim=16,
            global_states_input_dim=32,
            cross_attention_input_dim=16,
        ),
        scheduler=diffusers.CosineDPMSolverMultistepScheduler(
            solver_order=2,
            prediction_type="v_prediction",
            sigma_data=1.0,
            sigma_schedule="exponential",
        ),
        vae=diffusers.AutoencoderOobleck(
            encoder_hidden_size=16,  # twice the channels of a latent, or it cannot be encoded
            downsampling_ratios=[2, 4, 4, 8],
            channel_multiples=[1, 2, 2, 4],
            decoder_channels=8,
            decoder_input_channels=8,
            audio_channels=2,
            sampling_rate=_RATE,
        ),
        text_encoder=t5_text_encoder(width=16),
        tokenizer=t5_tokenizer(64),
        projection_model=projection(
            text_encoder_dim=16, conditioning_dim=16, min_value=0, max_value=32
        ),
    )


def save_speech(folder: Path) -> None:
    """Save a VITS into a folder: a voice that reads letters aloud in a language of its own."""
    transformers = imported("transformers")
    model = transformers.VitsModel(
        transformers.VitsConfig(
            vocab_size=SPEECH_VOCABULARY,
            hidden_size=16,
            num_hidden_layers=2,
            ffn_dim=32,
            flow_size=16,
            spectrogram_bins=17,
            upsample_initial_channel=32,
            upsample_rates=[8, 8, 4],
            upsample_kernel_sizes=[16, 16, 8],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1, 3]],
            duration_predictor_filter_channels=16,
            duration_predictor_num_flows=2,
            prior_encoder_num_flows=2,
            posterior_encoder_num_wavenet_layers=2,
            prior_encoder_num_wavenet_layers=2,
            sampling_rate=_RATE,
        )
    )
    model.save_pretrained(folder, safe_serialization=True)
    with tempfile.TemporaryDirectory() as parent:
        vocabulary = Path(parent, "vocab.json")
        vocabulary.write_text(json.dumps(speech_vocabulary()))
        transformers.VitsTokenizer(
            vocab_file=str(vocabulary),
            pad_token="_",  # noqa: S106  # a letter, no password
            unk_token=" ",  # noqa: S106  # likewise a letter
            add_blank=True,
            normalize=True,
            phonemize=False,
        ).save_pretrained(folder)
