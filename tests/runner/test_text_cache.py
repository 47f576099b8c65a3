"""What text encoders said is remembered, within bounds."""

from callsheet.runner.text_cache import TextCache
from callsheet.runner.untyped import Untyped, imported

torch = imported("torch")


class Encoder:
    """Counts how often it is asked, and says the same of the same words."""

    def __init__(self) -> None:
        self.asked = 0

    def forward(self, words: Untyped, *, hidden: Untyped = None) -> Untyped:
        """Return twice the words."""
        self.asked += 1
        return {"states": (words * 2,), "hidden": hidden}


def cached(**bounds: int) -> tuple[Encoder, TextCache]:
    encoder, cache = Encoder(), TextCache(torch, **bounds)
    cache.put_before({"text_encoder": encoder})
    return encoder, cache


def words(*tokens: int) -> Untyped:
    return torch.tensor([tokens])


def test_the_same_words_are_read_once() -> None:
    encoder, cache = cached()
    first = encoder.forward(words(1, 2))
    first["states"][0][:] = 0  # whoever has it may do with it what they like
    again = encoder.forward(words(1, 2))
    assert again["states"][0].tolist() == [[2, 4]]
    again["states"][0][:] = 0
    assert encoder.forward(words(1, 2))["states"][0].tolist() == [[2, 4]]
    assert (encoder.asked, cache.hits) == (1, 2)


def test_other_words_ways_and_encoders_are_others() -> None:
    encoder, cache = cached()
    other = Encoder()
    cache.put_before({"text_encoder_2": other})
    calls = [
        lambda: encoder.forward(words(1, 2)),
        lambda: encoder.forward(words(2, 1)),
        lambda: encoder.forward(words(1, 2).T),
        lambda: encoder.forward(words(1, 2).int()),
        lambda: encoder.forward(words(1, 2), hidden=True),
        lambda: other.forward(words(1, 2)),
    ]
    for call in calls:
        call()
    assert (encoder.asked, other.asked, cache.hits) == (5, 1, 0)
    for call in calls:
        call()
    assert (encoder.asked, other.asked, cache.hits) == (5, 1, 6)


def test_what_cannot_be_compared_is_asked_each_time() -> None:
    encoder, cache = cached()
    for _ in range(2):
        encoder.forward(words(1), hidden=object())
    assert (encoder.asked, cache.hits) == (2, 0)


def test_the_least_recently_used_goes_first() -> None:
    encoder, _ = cached(most=2)
    for token in (1, 2, 1, 3):
        encoder.forward(words(token))
    assert encoder.asked == 3
    encoder.forward(words(1))
    assert encoder.asked == 3
    encoder.forward(words(2))
    assert encoder.asked == 4


def test_no_more_bytes_are_kept_than_there_is_room_for() -> None:
    encoder, _ = cached(most_bytes=16)  # two numbers of eight bytes
    for token in (1, 2, 3, 3, 2, 1):
        encoder.forward(words(token))
    assert encoder.asked == 4
    large = words(*range(9))
    for _ in range(2):
        encoder.forward(large)
    assert encoder.asked == 6


def test_a_closed_cache_neither_answers_nor_learns() -> None:
    encoder, cache = cached()
    encoder.forward(words(1))
    with cache.closed():
        encoder.forward(words(1))
        encoder.forward(words(2))
    encoder.forward(words(2))
    encoder.forward(words(1))
    assert (encoder.asked, cache.hits) == (4, 1)
