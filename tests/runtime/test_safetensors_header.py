"""The head of a file of weights, and whatever may be wrong with the file."""

import json
import os
import struct
from pathlib import Path
from typing import Final

import pytest

from callsheet.runtime.safetensors_header import Tensor, WeightsDamaged, tensors_of
from tests.support.weights import ones, save_arrays

#: Two tensors in one place.
TWINS: Final = {name: {"dtype": "I8", "shape": [1], "data_offsets": [0, 1]} for name in ("a", "b")}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that the library itself wrote."""
    path = tmp_path / "model.safetensors"
    arrays = {
        "a": ones(3, 5),
        "b": ones(7, dtype="float16"),
        "c": ones(dtype="int8"),
        "empty": ones(0, 4),
    }
    save_arrays(path, arrays)
    return path


def written(path: Path, head: object, *, content: bytes = b"") -> None:
    """Write a file with the head, as JSON or as it is."""
    encoded = head if isinstance(head, bytes) else json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content)


def entry(dtype: object = "F32", shape: object = (2,), place: object = (0, 8)) -> object:
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": place}}


def test_a_whole_file_tells_its_tensors(file: Path) -> None:
    assert tensors_of(file) == {
        "a": Tensor("F32", (3, 5)),
        "b": Tensor("F16", (7,)),
        "c": Tensor("I8", ()),
        "empty": Tensor("F32", (0, 4)),
    }


def test_numbers_of_half_a_byte_fill_whole_ones(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    written(path, entry(dtype="F4", shape=(16,)), content=bytes(8))
    (tensor,) = tensors_of(path).values()
    assert (tensor.parameters, tensor.size_bytes) == (16, 8)


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_file_that_lacks_its_end_is_cut_off(file: Path, cut: int) -> None:
    os.truncate(file, file.stat().st_size * cut // 10)
    with pytest.raises(WeightsDamaged, match="cut off"):
        tensors_of(file)


def test_an_empty_file_is_cut_off(file: Path) -> None:
    file.write_bytes(b"")
    with pytest.raises(WeightsDamaged, match="cut off: it has 0 bytes"):
        tensors_of(file)


def test_a_file_with_more_than_its_tensors_is_damaged(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(WeightsDamaged, match="damaged: it has"):
        tensors_of(file)


def test_another_format_is_no_safetensors_file(file: Path) -> None:
    file.write_bytes(b"PK\x03\x04" * 1000)
    with pytest.raises(WeightsDamaged, match="no safetensors file: its head would have"):
        tensors_of(file)


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        (b"\xff\xfe{", "its head is no JSON"),
        (b'{"a":' * 100_000, "its head is no JSON"),
        (b"{", "its head is no JSON"),
        (b" {}", "its head is no JSON object"),
        (b'{"a": 1, "a": 2}', "its head is no JSON"),
        (b'{"a": NaN}', "its head is no JSON"),
        (b'{"\\ud800": 1}', "its head is no JSON"),
        ([1], "its head is no JSON object"),
        ({"__metadata__": {"a": 1}}, "its metadata are no texts"),
        ({"__metadata__": 3}, "its metadata are no texts"),
        (entry(dtype="F4", shape=(15,), place=(0, 8)), "has an impossible shape"),
        (entry(shape=(2**40, 2**40, 0), place=(0, 0)), "has an impossible shape"),
        ({"t": 3}, "its tensor 't' is not described"),
        (entry(dtype="F99"), "has the unknown number format 'F99'"),
        (entry(dtype=4), "has the unknown number format 4"),
        (entry(shape="2"), "has no shape or no place"),
        (entry(shape=(-2,)), "has no shape or no place"),
        (entry(shape=(True,)), "has no shape or no place"),
        (entry(place=(0, 8, 16)), "has no shape or no place"),
        (entry(place=(0, 9)), "has another size than its shape"),
        (entry(place=(4, 12)), "its tensors overlap, or leave gaps"),
        (TWINS, "its tensors overlap"),
    ],
)
def test_a_head_that_makes_no_sense_is_refused(tmp_path: Path, head: object, problem: str) -> None:
    path = tmp_path / "model.safetensors"
    written(path, head, content=bytes(8))
    with pytest.raises(WeightsDamaged, match=problem):
        tensors_of(path)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tensors_of(tmp_path / "nope.safetensors")
