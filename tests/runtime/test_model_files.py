"""The files of a model: counted when they are whole, and named when they are not."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from callsheet.runtime.model_files import ModelFiles, adapter_files, pipeline_files
from tests.support.weights import ones, save_arrays, save_weights

INDEX: Final[Mapping[str, object]] = {
    "_class_name": "FluxPipeline",
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "safety_checker": [None, None],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "force_zeros": True,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline of two networks, one of them in two files."""
    (tmp_path / "model_index.json").write_text(json.dumps(INDEX))
    for part in ("text_encoder", "transformer"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text("{}")
    save_weights(tmp_path / "text_encoder" / "model.safetensors", a=30)
    names = [f"diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    save_weights(tmp_path / "transformer" / names[0], b=100)
    save_weights(tmp_path / "transformer" / names[1], c=200)
    (tmp_path / "transformer" / SHARDS).write_text(
        json.dumps({"weight_map": {"b": names[0], "c": names[1]}})
    )
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text("{}")
    # Of other formats than the one that is loaded
    (tmp_path / "transformer" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"x")
    return tmp_path


SHARDS: Final = "diffusion_pytorch_model.safetensors.index.json"


def damages(files: ModelFiles) -> list[tuple[str, str]]:
    return [(damage.file, damage.problem) for damage in files.damages]


def test_a_whole_pipeline_is_counted_by_its_parts(folder: Path) -> None:
    files = pipeline_files(folder)
    assert files.is_whole, damages(files)
    assert files.parts == {"text_encoder": 30, "transformer": 300}
    assert files.parameters == {"F32": 330}
    assert (files.weight_bytes("float32"), files.weight_bytes("bfloat16")) == (1320, 660)
    taken = [
        path.stat().st_size for path in folder.rglob("*.safetensors") if "fp16" not in path.name
    ]
    assert files.size_bytes == sum(taken)


def test_numbers_that_are_no_floats_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    save_arrays(
        tmp_path / "model.safetensors",
        {"a": ones(8, dtype="float16"), "ids": ones(4, dtype="int64")},
    )
    assert pipeline_files(tmp_path).weight_bytes("float32") == 8 * 4 + 4 * 8


def test_a_model_of_one_part_has_no_index(folder: Path) -> None:
    files = pipeline_files(folder / "text_encoder")
    assert (files.is_whole, files.parts) == (True, {"": 30})


def cut_a_shard(folder: Path) -> None:
    os.truncate(folder / "transformer" / SHARDS.replace(".safetensors.index.json", LAST), 300)


LAST: Final = "-00002-of-00002.safetensors"


def lose_a_shard(folder: Path) -> None:
    (folder / "transformer" / SHARDS.replace(".safetensors.index.json", LAST)).unlink()


def lose_a_tensor(folder: Path) -> None:
    save_weights(folder / "transformer" / SHARDS.replace(".safetensors.index.json", LAST), d=3)


def break_the_shard_index(folder: Path) -> None:
    (folder / "transformer" / SHARDS).write_text("{")


def point_elsewhere(folder: Path) -> None:
    (folder / "transformer" / SHARDS).write_text('{"weight_map": {"b": "../x.safetensors"}}')


def lose_a_part(folder: Path) -> None:
    for path in (folder / "text_encoder").iterdir():
        path.unlink()
    (folder / "text_encoder").rmdir()


def lose_a_config(folder: Path) -> None:
    (folder / "text_encoder" / "config.json").unlink()


def leave_a_pickle(folder: Path) -> None:
    part = folder / "text_encoder"
    (part / "model.safetensors").rename(part / "pytorch_model.bin")


def leave_a_variant(folder: Path) -> None:
    part = folder / "text_encoder"
    (part / "model.safetensors").rename(part / "model.fp16.safetensors")


def break_the_index(folder: Path) -> None:
    (folder / "model_index.json").write_text("[1]")


def empty_the_index(folder: Path) -> None:
    (folder / "model_index.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "file", "problem"),
    [
        (cut_a_shard, f"transformer/diffusion_pytorch_model{LAST}", "cut off: it has 300 of"),
        (lose_a_shard, f"transformer/diffusion_pytorch_model{LAST}", "it is not there"),
        (
            lose_a_tensor,
            f"transformer/diffusion_pytorch_model{LAST}",
            "lacks 1 tensors, such as 'c'",
        ),
        (break_the_shard_index, f"transformer/{SHARDS}", "damaged: it is no JSON"),
        (point_elsewhere, f"transformer/{SHARDS}", "it names a file elsewhere: '../x.safetensors'"),
        (lose_a_part, "text_encoder", "the folder is not there"),
        (lose_a_config, "text_encoder/config.json", "it is not there"),
        (leave_a_pickle, "text_encoder/pytorch_model.bin", "a pickle is never loaded"),
        (leave_a_variant, "text_encoder", "no model.safetensors; model.fp16.safetensors is a var"),
        (break_the_index, "model_index.json", "damaged: it is no JSON object"),
        (empty_the_index, "model_index.json", "it names no parts"),
    ],
)
def test_what_is_damaged_is_named(
    folder: Path, damage: Callable[[Path], None], file: str, problem: str
) -> None:
    damage(folder)
    files = pipeline_files(folder)
    assert not files.is_whole
    assert damages(files)[0][0] == file
    assert problem in damages(files)[0][1]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for look in (pipeline_files, adapter_files):
        assert damages(look(tmp_path / "nope")) == [("", "the folder is not there")]


def test_a_lora_is_the_one_file_or_the_one_that_is_named(tmp_path: Path) -> None:
    save_weights(tmp_path / "grain.safetensors", a=5)
    assert adapter_files(tmp_path).parts == {"": 5}
    save_weights(tmp_path / "rain.safetensors", a=7)
    assert damages(adapter_files(tmp_path))[0][1].startswith("it has 2 files of weights")
    assert adapter_files(tmp_path, file="rain.safetensors").parts == {"": 7}
    assert damages(adapter_files(tmp_path, file="no.safetensors")) == [
        ("no.safetensors", "it is not there")
    ]
