"""The files of a model: how many weights they hold, and what is missing or damaged."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from callsheet.runtime.safetensors_header import (
    BITS,
    FLOATING,
    Tensor,
    WeightsDamaged,
    tensors_of,
)

#: Bytes of one number, by torch's name of the format.
DTYPE_BYTES: Final[Mapping[str, int]] = {"float32": 4, "bfloat16": 2, "float16": 2}

_INDEX: Final = "model_index.json"
_CONFIG: Final = "config.json"
#: The names that the libraries look for; those with a variant in them they do not take.
_ONE_FILE: Final = re.compile(r"(?:diffusion_pytorch_model|model)\.safetensors")
_SHARD_INDEX: Final = re.compile(r"(?:diffusion_pytorch_model|model)\.safetensors\.index\.json")
_PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".ckpt"})
_LARGEST_JSON: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class Damage:
    """One file that a model cannot be loaded with."""

    file: str
    """Its path in the model's folder."""
    problem: str


@dataclass(frozen=True)
class ModelFiles:
    """What the files of a model hold, as far as they are whole."""

    folder: Path
    parts: Mapping[str, int]
    """The number of weights by part, such as unet; a model of one part has the part ''."""
    parameters: Mapping[str, int]
    """The number of weights by the format they are stored in, such as BF16."""
    size_bytes: int
    """What the files of weights take on the disk."""
    damages: tuple[Damage, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether nothing was found missing or damaged."""
        return not self.damages

    def weight_bytes(self, dtype: str) -> int:
        """Return the memory that the weights take once they are loaded in a format of torch."""
        return sum(
            count * (DTYPE_BYTES[dtype] if stored in FLOATING else BITS[stored] // 8)
            for stored, count in self.parameters.items()
        )

    def largest_part_bytes(self, dtype: str) -> int:
        """Return what the weights of the largest part take so, if all are stored alike."""
        largest, all_parts = max(self.parts.values(), default=0), sum(self.parts.values())
        return self.weight_bytes(dtype) * largest // max(1, all_parts)


@dataclass
class _Found:
    """What was found on the way."""

    folder: Path
    parts: Counter[str] = field(default_factory=Counter[str])
    parameters: Counter[str] = field(default_factory=Counter[str])
    size_bytes: int = 0
    damages: list[Damage] = field(default_factory=list[Damage])

    def blame(self, path: Path, problem: str) -> None:
        place = path.relative_to(self.folder).as_posix()
        self.damages.append(Damage("" if place == "." else place, problem))


def pipeline_files(folder: Path) -> ModelFiles:
    """Return what the folder of a pipeline, or of a model of one part, holds.

    Nothing is raised: whatever is not there or not whole is named among the damages.
    """
    found = _Found(folder)
    if not folder.is_dir():
        found.blame(folder, "the folder is not there")
    elif (folder / _INDEX).is_file():
        for part in _parts_of(found):
            _take_part(found, folder / part, name=part)
    else:
        _take_part(found, folder, name="")
    return _told(found)


def adapter_files(folder: Path, *, file: str = "") -> ModelFiles:
    """Return what the folder of a LoRA holds: the file that is named, or the one that is there."""
    found = _Found(folder)
    if not folder.is_dir():
        found.blame(folder, "the folder is not there")
        return _told(found)
    files = [folder / file] if file else sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        found.blame(folder, f"it has {len(files)} files of weights; name the one that is meant")
    for path in files[:1]:
        _take_file(found, path, part="")
    return _told(found)


def _told(found: _Found) -> ModelFiles:
    return ModelFiles(
        found.folder, found.parts, found.parameters, found.size_bytes, tuple(found.damages)
    )


def _parts_of(found: _Found) -> Iterator[str]:
    """Yield the parts of a pipeline whose files are loaded."""
    index = _object(found, found.folder / _INDEX)
    named = {name: value for name, value in index.items() if not name.startswith("_")}
    if not named and not found.damages:
        found.blame(found.folder / _INDEX, "it names no parts")
    for name, value in named.items():
        # [library, class]; [null, null] is a part that the pipeline does without.
        if not isinstance(value, list) or cast("list[object]", value)[:1] == [None]:
            continue
        if not (found.folder / name).is_dir():
            found.blame(found.folder / name, "the folder is not there")
        elif _has_weights(found.folder / name):
            yield name


def _has_weights(part: Path) -> bool:
    """Tell whether a part is a network: schedulers and tokenizers have other files."""
    return (part / _CONFIG).is_file() or any(part.glob("*.safetensors*"))


def _take_part(found: _Found, folder: Path, *, name: str) -> None:
    """Count the weights of one network."""
    if not (folder / _CONFIG).is_file():
        found.blame(folder / _CONFIG, "it is not there")
    else:
        _object(found, folder / _CONFIG)
    names = sorted(path.name for path in folder.iterdir())
    if one := [each for each in names if _ONE_FILE.fullmatch(each)]:
        _take_file(found, folder / one[0], part=name)
    elif indexes := [each for each in names if _SHARD_INDEX.fullmatch(each)]:
        _take_shards(found, folder / indexes[0], part=name)
    elif pickles := [each for each in names if Path(each).suffix in _PICKLES]:
        found.blame(folder / pickles[0], "a pickle is never loaded; safetensors are")
    else:
        variants = [each for each in names if each.endswith(".safetensors")]
        more = f"; {variants[0]} is a variant" if variants else ""
        found.blame(folder, f"it has no model.safetensors{more}")


def _take_shards(found: _Found, index: Path, *, part: str) -> None:
    """Count the weights of a network that was cut into several files."""
    where = _object(found, index).get("weight_map")
    if not isinstance(where, dict):
        found.blame(index, "it has no weight_map")
        return
    shards: dict[str, set[str]] = {}
    for tensor, file in cast("dict[str, object]", where).items():
        shards.setdefault(str(file), set()).add(tensor)
    for file, wanted in sorted(shards.items()):
        if Path(file).name != file:
            found.blame(index, f"it names a file elsewhere: {file[:80]!r}")
            continue
        path = index.with_name(file)
        tensors = _take_file(found, path, part=part)
        if tensors is not None and (missing := sorted(wanted - tensors.keys())):
            found.blame(path, f"it lacks {len(missing)} tensors, such as {missing[0][:80]!r}")


def _take_file(found: _Found, path: Path, *, part: str) -> Mapping[str, Tensor] | None:
    """Count the weights of one file. None: it is not whole."""
    try:
        tensors = tensors_of(path)
    except WeightsDamaged as error:
        found.blame(path, str(error))
    except FileNotFoundError:
        found.blame(path, "it is not there")
    except OSError as error:
        found.blame(path, f"it cannot be read: {error.strerror}")
    else:
        found.size_bytes += path.stat().st_size
        for tensor in tensors.values():
            found.parts[part] += tensor.parameters
            found.parameters[tensor.dtype] += tensor.parameters
        return tensors
    return None


def _object(found: _Found, path: Path) -> Mapping[str, object]:
    """Return the JSON object of a file; an empty one when there is none, which is then blamed."""
    try:
        if path.stat().st_size > _LARGEST_JSON:
            found.blame(path, f"it is larger than {_LARGEST_JSON} bytes")
            return {}
        value = json.loads(path.read_bytes())
    except OSError as error:
        found.blame(path, f"it cannot be read: {error.strerror}")
    except (ValueError, RecursionError):
        found.blame(path, "damaged: it is no JSON")
    else:
        if isinstance(value, dict):
            return cast("Mapping[str, object]", value)
        found.blame(path, "damaged: it is no JSON object")
    return {}
