"""Where the hub's own library keeps what it fetched."""

from pathlib import Path
from typing import Final

import pytest

from callsheet.runtime.hub_cache import snapshot_folder

COMMIT: Final = "462165984030d82259a11f4367a4eed129e94a7b"


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """The folder of a model that was fetched by its branch."""
    repository = tmp_path / "hub" / "models--someone--sdxl"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_model_is_found_by_its_branch_and_its_commit(
    tmp_path: Path, snapshot: Path, revision: str
) -> None:
    home = {"HF_HOME": str(tmp_path)}
    assert snapshot_folder("someone/sdxl", revision, environment=home) == snapshot


def test_the_cache_is_where_the_library_has_it(tmp_path: Path, snapshot: Path) -> None:
    cache = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HOME": "elsewhere"}
    assert snapshot_folder("someone/sdxl", "main", environment=cache) == snapshot
    (tmp_path / "hub").rename(tmp_path / "moved")
    (tmp_path / "huggingface").mkdir()
    (tmp_path / "moved").rename(tmp_path / "huggingface" / "hub")
    found = snapshot_folder("someone/sdxl", "main", environment={"XDG_CACHE_HOME": str(tmp_path)})
    assert found == tmp_path / "huggingface" / "hub" / snapshot.relative_to(tmp_path / "hub")


@pytest.mark.parametrize(
    ("hub_id", "revision"),
    [
        ("someone/other", "main"),
        ("someone/sdxl", "v1"),
        ("someone/sdxl", COMMIT[::-1]),
        ("someone/sdxl", "../snapshots"),
        ("someone/sdxl", "../../../secret"),
    ],
)
def test_what_was_not_fetched_has_no_folder(
    tmp_path: Path, snapshot: Path, hub_id: str, revision: str
) -> None:
    (tmp_path / "secret").write_text(COMMIT)
    assert snapshot_folder(hub_id, revision, environment={"HF_HOME": str(tmp_path)}) is None


def test_a_reference_that_is_no_commit_leads_nowhere(tmp_path: Path, snapshot: Path) -> None:
    (snapshot.parents[1] / "refs" / "main").write_text("..")
    environment = {"HF_HOME": str(tmp_path)}
    assert snapshot_folder("someone/sdxl", "main", environment=environment) is None
