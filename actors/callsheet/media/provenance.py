"""How a file was made: in the file itself, and as JSON beside it in the manner of C2PA.

Nothing of a machine or of the time gets in: what made the same bytes is told in the same words. The
JSON beside a file is a C2PA manifest in its words and structure, and is not signed.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Final, cast
from xml.sax.saxutils import escape

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from callsheet.runner.context import TaskContext
from callsheet.tasks.v1.artifact_pb2 import Artifact

#: The parameters of a file, as JSON, beyond which their digest stands for them.
LONGEST_PARAMETERS: Final = 16 * 2**10

_SOURCE_TYPES: Final = "http://cv.iptc.org/newscodes/digitalsourcetype"
_XMP: Final = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about=""'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    ' xmlns:callsheet="urn:callsheet:provenance:1">'
    "<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>"
    "<callsheet:provenance>{provenance}</callsheet:provenance>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="w"?>'
)


class Source(StrEnum):
    """Where the content of a file comes from, in the words of IPTC."""

    MODEL = "trainedAlgorithmicMedia"
    """A model drew all of it."""
    MODEL_AND_INPUT = "compositeWithTrainedAlgorithmicMedia"
    """A model drew on something that was given."""
    ALGORITHM = "algorithmicMedia"
    """A program made it, without a model."""
    ENHANCED = "algorithmicallyEnhanced"
    """A program made something that was given larger or clearer."""
    COMPOSITE = "composite"
    """It was put together of what was given."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How a file was made."""

    task_id: str
    attempt: int
    project: str
    task_type: str
    source: Source
    parameters: Mapping[str, object]
    """What was asked for, in the JSON of the contract."""
    inputs: tuple[str, ...] = ()
    """The references to the files that it was made of."""
    model: str = ""
    """Empty: there was none."""
    model_revision: str = ""
    seed: int | None = None
    libraries: Mapping[str, str] = field(default_factory=dict[str, str])
    """The libraries that had a part in it, and their versions."""
    tuning: Mapping[str, str] = field(default_factory=dict[str, str])
    """How the model ran on its device, as far as bits follow from it. Empty: there was none."""

    def told(self) -> dict[str, object]:
        """Return all that is known, as JSON has it."""
        told: dict[str, object] = {
            "task": self.task_id,
            "attempt": self.attempt,
            "task_type": self.task_type,
            "digital_source_type": f"{_SOURCE_TYPES}/{self.source}",
            "parameters": self._parameters(),
            "libraries": dict(sorted({**_libraries(), **self.libraries}.items())),
        }
        if self.model:
            told["model"] = self.model
            told["model_revision"] = self.model_revision
        if self.tuning:
            told["tuning"] = dict(sorted(self.tuning.items()))
        if self.seed is not None:
            told["seed"] = self.seed
        return told

    def embedded(self) -> str:
        """Return what stands in the file itself: JSON on one line."""
        return _compact(self.told())

    def xmp(self) -> bytes:
        """Return the same as XMP, which is how images carry it."""
        source = f"{_SOURCE_TYPES}/{self.source}"
        return _XMP.format(source=source, provenance=escape(self.embedded())).encode()

    def sidecar(self, artifact: Artifact) -> bytes:
        """Return what stands beside the file."""
        ours = f"callsheet/{_version('callsheet')}"
        manifest = {
            "claim_generator": ours,
            "title": artifact.key.rpartition("/")[2],
            "format": artifact.media_type,
            "instance_id": f"urn:callsheet:{self.project}:{self.task_id}:{artifact.sha256}",
            "ingredients": [
                {"title": uri.rpartition("/")[2], "instance_id": uri, "relationship": "inputTo"}
                for uri in self.inputs
            ],
            "assertions": [
                {
                    "label": "c2pa.hash.data",
                    "data": {"alg": "sha256", "hash": artifact.sha256, "name": artifact.uri},
                },
                {"label": "c2pa.actions.v2", "data": {"actions": [self._action(ours)]}},
                {"label": "callsheet.task.v1", "data": self.told()},
            ],
            "signature": None,
        }
        return (json.dumps(manifest, ensure_ascii=False, indent=2) + "\n").encode()

    def _action(self, ours: str) -> dict[str, object]:
        is_edit = self.source in {Source.MODEL_AND_INPUT, Source.ENHANCED, Source.COMPOSITE}
        return {
            "action": "c2pa.edited" if is_edit else "c2pa.created",
            "digitalSourceType": f"{_SOURCE_TYPES}/{self.source}",
            "softwareAgent": {"name": f"{self.model} with {ours}" if self.model else ours},
        }

    def _parameters(self) -> Mapping[str, object]:
        words = _compact(self.parameters)
        if len(words.encode()) <= LONGEST_PARAMETERS:
            return self.parameters
        return {"sha256": sha256(words.encode()).hexdigest()}


def provenance_of(
    input: Message,
    context: TaskContext,
    *,
    source: Source,
    model: str = "",
    model_revision: str = "",
    seed: int | None = None,
    libraries: Mapping[str, str] | None = None,
    tuning: Mapping[str, str] | None = None,
) -> Provenance:
    """Return the provenance of what an attempt makes of its input."""
    name = input.DESCRIPTOR.name
    parameters = MessageToDict(input, preserving_proto_field_name=True)
    return Provenance(
        task_id=context.task_id,
        attempt=context.attempt,
        project=context.project,
        task_type=_snake(name.removesuffix("Input")),
        source=source,
        parameters=parameters,
        inputs=tuple(dict.fromkeys(_uris(parameters))),
        model=model,
        model_revision=model_revision,
        seed=seed,
        libraries=libraries or {},
        tuning=tuning or {},
    )


def _uris(parameters: object) -> list[str]:
    """Return the references within, wherever they stand."""
    if isinstance(parameters, dict):
        fields = cast("dict[str, object]", parameters)
        here = [uri] if isinstance(uri := fields.get("uri"), str) else []
        return [*here, *(each for value in fields.values() for each in _uris(value))]
    if isinstance(parameters, list):
        return [each for value in cast("list[object]", parameters) for each in _uris(value)]
    return []


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@cache
def _libraries() -> Mapping[str, str]:
    """Return what encodes, and its versions."""
    return {name: _version(name) for name in ("av", "callsheet", "numpy", "pillow")}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
