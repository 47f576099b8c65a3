"""What names weights: their pin, or what stands in their folder."""

from dataclasses import replace
from pathlib import Path

from callsheet.runner.weights import identity_of
from callsheet.runtime.models import BUILT_IN

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_what_has_a_pin_is_named_by_it() -> None:
    built_in = identity_of(BUILT_IN, None)
    fetched = replace(BUILT_IN, hub_id="film/film", revision=COMMIT)
    assert identity_of(fetched, None) != built_in
    assert identity_of(replace(fetched, revision=COMMIT[::-1]), None) != identity_of(fetched, None)
    assert identity_of(replace(BUILT_IN, name="other"), None) != built_in


def test_a_folder_is_named_by_what_stands_in_it(tmp_path: Path) -> None:
    def identity(folder: Path) -> str:
        return identity_of(replace(BUILT_IN, path=folder), folder)

    one, same = tmp_path / "one", tmp_path / "same"
    for folder in (one, same):
        (folder / "unet").mkdir(parents=True)
        (folder / "unet" / "weights").write_bytes(bytes(3 * 2**20))
        (folder / "config.json").write_text("{}")
    assert identity(one) == identity(same)
    # A byte at the end of a large file, another setting, another name
    with (same / "unet" / "weights").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    assert identity(one) != (changed := identity(same))
    (same / "config.json").write_text("{ }")
    assert identity(same) != changed
    (one / "config.json").rename(one / "setup.json")
    assert len({identity(one), identity(same), changed}) == 3
    # One file is a folder of its own
    assert identity(one / "setup.json") != identity(one)
