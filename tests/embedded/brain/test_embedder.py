"""Texts as vectors: the numbers of the model, a bound on what waits, and no text twice."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from callsheet.embedded.brain import embedder as embedding
from callsheet.embedded.brain.embedder import Embedder
from callsheet.embedded.brain.errors import BrainRefused, ModelMissing

CAT, KITTEN, TAX = "a cat sits on the mat", "a kitten is resting on a rug", "quarterly tax filing"


class CountingModel:
    """A model that notes what it is asked, and fails for one text."""

    def __init__(self) -> None:
        self.passes: list[list[str]] = []

    def encode(self, texts: list[str]) -> Any:  # noqa: ANN401  # what has a tolist
        self.passes.append(list(texts))
        if "bad" in texts:
            raise ModelMissing("no weights")

        class Rows:
            def tolist(self) -> list[list[float]]:
                return [[float(len(text))] for text in texts]

        return Rows()


@pytest.fixture
async def embedder() -> AsyncIterator[Embedder]:
    embedder = Embedder()
    yield embedder
    await embedder.close()


@pytest.fixture
def model(embedder: Embedder) -> CountingModel:
    model = CountingModel()
    embedder._model = model  # pyright: ignore[reportAttributeAccessIssue, reportPrivateUsage]  # no weights
    return model


async def test_near_meanings_have_near_vectors(embedder: Embedder) -> None:
    """The numbers are those that sentence-transformers computes with torch."""
    cat, kitten, tax = await asyncio.gather(*map(embedder.vector, (CAT, KITTEN, TAX)))
    assert len(cat) == 384
    assert cat[:3] == pytest.approx([0.128725, -0.032673, -0.022916], abs=1e-5)
    assert _cosine(cat, cat) == pytest.approx(1, abs=1e-5)
    assert _cosine(cat, kitten) == pytest.approx(0.65319, abs=1e-4)
    assert _cosine(cat, tax) < 0.2


async def test_a_text_in_company_has_the_vector_that_it_has_alone(embedder: Embedder) -> None:
    alone = await embedder.vector(CAT)
    other = Embedder()
    long = " ".join([TAX] * 40)
    together, *_ = await asyncio.gather(*map(other.vector, (CAT, long, "x")))
    assert together == pytest.approx(alone, abs=1e-5)
    await other.close()


async def test_texts_that_wait_at_the_same_time_share_a_pass(
    embedder: Embedder, model: CountingModel
) -> None:
    texts = [f"text {n}" for n in range(20)] * 2
    vectors = await asyncio.gather(*map(embedder.vector, texts))
    assert vectors[:20] == vectors[20:]
    assert [len(each) for each in model.passes] == [16, 4]
    await embedder.vector("text 1")
    assert len(model.passes) == 2


async def test_a_failure_goes_to_those_who_wait_and_to_nobody_else(
    embedder: Embedder, model: CountingModel
) -> None:
    with pytest.raises(ModelMissing):
        await embedder.vector("bad")
    assert await embedder.vector("good") == [4.0]


async def test_no_more_texts_wait_than_there_is_room_for(
    embedder: Embedder, model: CountingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "_MOST_WAITING", 3)
    answers = await asyncio.gather(
        *(embedder.vector(f"text {n}") for n in range(5)), return_exceptions=True
    )
    assert [isinstance(answer, BrainRefused) for answer in answers] == [False] * 3 + [True] * 2


def test_neither_torch_nor_transformers_is_imported_by_the_model() -> None:
    program = (
        "import sys; from callsheet.embedded.brain.minilm import MiniLM; MiniLM().encode(['x']);"
        "sys.exit(bool({'torch', 'transformers', 'sentence_transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def _cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
