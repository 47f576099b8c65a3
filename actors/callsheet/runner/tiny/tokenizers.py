"""Tokenizers made from no text at all: any prompt has tokens, and other prompts have others."""

import string
from typing import Final

from callsheet.runner.untyped import Untyped, imported

_BYTES: Final = 256
_START: Final = "<|startoftext|>"
_END: Final = "<|endoftext|>"

CLIP_VOCABULARY: Final = 2 * _BYTES + 2
"""Every byte, every byte that ends a word, and the two marks around them: the last two ids."""

_PIECES: Final = (
    ("<pad>", 0.0),
    ("</s>", 0.0),
    ("<unk>", 0.0),
    ("▁", -2.0),
    *((letter, -3.0) for letter in string.printable.strip()),
    *((f"▁{letter}", -2.5) for letter in string.ascii_lowercase),
)
T5_VOCABULARY: Final = len(_PIECES)

_LETTERS: Final = "_ '-.,?!" + string.ascii_lowercase + string.digits
SPEECH_VOCABULARY: Final = len(_LETTERS)


def clip_tokenizer() -> Untyped:
    """Return a tokenizer that knows every byte and merges none; 77 tokens, as CLIP has."""
    transformers = imported("transformers")
    symbols = _byte_symbols()
    pieces = [*symbols, *(f"{symbol}</w>" for symbol in symbols), _START, _END]
    return transformers.CLIPTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=[],
        model_max_length=77,
        pad_token=_END,
    )


def t5_tokenizer(tokens: int) -> Untyped:
    """Return a tokenizer of letters for texts of at most that many tokens."""
    return imported("transformers").T5Tokenizer(
        vocab=list(_PIECES), extra_ids=0, model_max_length=tokens
    )


def speech_vocabulary() -> dict[str, int]:
    """Return the letters that a voice can speak, with their ids."""
    return {letter: index for index, letter in enumerate(_LETTERS)}


def _byte_symbols() -> list[str]:
    """Return the printable letter that stands for each byte in byte-level tokenizers."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(_BYTES) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(_BYTES + i) for i in range(len(others))]
