"""The table of mutants stays true: each one still fits the product, and its catchers exist."""

from pathlib import Path

import pytest

from tests.chaos.faults import targets
from tests.chaos.mutants import MUTANTS, Mutant
from tests.chaos.mutants_run import CannotTell, applied

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_a_mutant_fits_the_product_exactly_once(mutant: Mutant) -> None:
    content = (REPOSITORY / mutant.file).read_text()
    assert content.count(mutant.find) == 1
    assert mutant.find != mutant.becomes


@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=MUTANTS)
def test_what_is_to_catch_a_mutant_exists(mutant: Mutant) -> None:
    assert mutant.catchers
    for catcher in mutant.catchers:
        if catcher.startswith("run:"):
            assert set(catcher.removeprefix("run:").split()) <= set(targets())
        else:
            path, _, name = catcher.partition("::")
            assert f"def {name}" in (REPOSITORY / path).read_text()


def test_a_part_of_the_mutants_must_be_caught_by_the_checker_alone() -> None:
    """They prove that a run's histories are enough to see what is wrong."""
    by_run = [mutant for mutant in MUTANTS.values() if mutant.catchers[0].startswith("run:")]
    assert len(MUTANTS) >= 20
    assert len(by_run) >= 5


def test_a_mutant_that_no_longer_fits_is_refused_loudly(tmp_path: Path) -> None:
    """Nothing is tried on a tree without its defect."""
    mutant = Mutant("part.py", "a = 1\n", "a = 2\n", ("tests/x.py",))
    (tmp_path / "part.py").write_text("a = 1\n")
    applied(mutant, tmp_path)
    assert (tmp_path / "part.py").read_text() == "a = 2\n"
    with pytest.raises(CannotTell):
        applied(mutant, tmp_path)
