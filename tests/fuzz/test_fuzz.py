"""What was found is found no more, and a short run finds nothing new."""

import pytest
from hypothesis import Phase, given, settings

from tests.fuzz.corpus import CORPUS, LARGEST_ENTRY, entries
from tests.fuzz.mutation import UNHURRIED, inputs
from tests.fuzz.target import Check, Target
from tests.fuzz.targets import TARGETS

#: A failing input is shown as it is, made small; it belongs into the corpus of its target.
SHORT = settings(
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=UNHURRIED,
)


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)
    assert [name for name in TARGETS if not entries(name)] == []


def test_no_entry_is_larger_than_a_reader_can_look_at() -> None:
    sizes = {
        f"{name}/{file}": len(content)
        for name in TARGETS
        for file, content in entries(name).items()
    }
    assert {file for file, size in sizes.items() if size > LARGEST_ENTRY} == set()


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_a_target_stands_its_corpus_and_what_is_like_it(target: Target) -> None:
    corpus = entries(target.name)
    with target.opened() as check:
        for name, content in corpus.items():
            _checked(check, content, name)

        @settings(SHORT, max_examples=target.examples)
        @given(content=inputs(target, list(corpus.values())))
        def mutated(content: bytes) -> None:
            check(content)

        mutated()


def _checked(check: Check, content: bytes, name: str) -> None:
    try:
        check(content)
    except Exception as error:
        error.add_note(f"this is the entry {name} of the corpus")
        raise
