"""How well images agree with words, by a model that knows both: CLIP, or one of its kin."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from callsheet.runner.untyped import Untyped, imported
from callsheet.runtime.models import AgreementModel


class PromptAgreement:
    """The model that the catalogue names for it, loaded once; used by the inference thread."""

    def __init__(self, model: AgreementModel, *, device: str) -> None:
        """Load the model from its folder or the hub; safetensors only.

        Raises whatever transformers does when it is not there, or is no model of this kind.
        """
        self._torch = imported("torch")
        transformers = imported("transformers")
        source: Path | str | None = model.path or model.hub_id
        from_there = {
            "revision": model.revision or None,
            "local_files_only": model.path is not None,
        }
        self._device = device
        loaded: Untyped = transformers.CLIPModel.from_pretrained(
            source, use_safetensors=True, **from_there
        )
        self._model = loaded.eval().to(device)
        self._tokenizer = transformers.CLIPTokenizer.from_pretrained(source, **from_there)
        # The one that works with Pillow alone: the other wants torchvision.
        self._images = transformers.CLIPImageProcessorPil.from_pretrained(source, **from_there)

    def with_words(self, words: str, images: Sequence[bytes]) -> Sequence[float]:
        """Return for each encoded image the cosine between its meaning and that of the words.

        Words beyond what the model reads are cut off.
        """
        from PIL import Image

        tokens = self._tokenizer([words], padding=True, truncation=True, return_tensors="pt")
        shown = [Image.open(io.BytesIO(image)).convert("RGB") for image in images]
        pixels = self._images(images=shown, return_tensors="pt")
        with self._torch.inference_mode():
            known = self._model(**tokens.to(self._device), **pixels.to(self._device))
            cosines = self._torch.nn.functional.cosine_similarity(
                known.text_embeds, known.image_embeds
            )
        return cast("list[float]", cosines.float().cpu().tolist())
