"""A CLIP of some thousand random weights, made from its configuration."""

from pathlib import Path
from typing import Final

from callsheet.runner.untyped import Untyped, imported

_SIDE: Final = 32
_WORDS: Final = 256


def tiny_clip_folder(parent: Path) -> Path:
    """Return a folder with the model, its tokenizer and its image processor."""
    folder = parent / "clip"
    torch, transformers = imported("torch"), imported("transformers")
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Untyped = transformers.CLIPModel(
            transformers.CLIPConfig(
                text_config={**shape, **_TOKENS, "num_hidden_layers": 2},
                vision_config={
                    **shape,
                    "num_hidden_layers": 2,
                    "image_size": _SIDE,
                    "patch_size": 8,
                },
                projection_dim=16,
            )
        )
    model.save_pretrained(folder, safe_serialization=True)
    _tokenizer(transformers).save_pretrained(folder)
    size = {"height": _SIDE, "width": _SIDE}
    transformers.CLIPImageProcessorPil(
        size={"shortest_edge": _SIDE}, crop_size=size
    ).save_pretrained(folder)
    return folder


_TOKENS: Final = {
    "vocab_size": 2 * _WORDS + 2,
    "bos_token_id": 2 * _WORDS,
    "eos_token_id": 2 * _WORDS + 1,
    "pad_token_id": 2 * _WORDS + 1,
}


def _tokenizer(transformers: Untyped) -> Untyped:
    """Return a tokenizer that knows the letters of plain English and merges none."""
    letters = [chr(code) for code in range(0x21, 0x7F)]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    unused = [f"<{number}>" for number in range(2 * _WORDS - len(pieces))]
    vocabulary = [*pieces, *unused, "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(
        vocab={piece: number for number, piece in enumerate(vocabulary)},
        merges=[],
        model_max_length=77,
        pad_token="<|endoftext|>",
    )
