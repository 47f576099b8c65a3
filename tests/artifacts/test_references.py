"""What an output refers to is found whatever its type."""

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message

from callsheet.artifacts.references import artifacts_in, media_in, unpacked
from callsheet.tasks.v1.artifact_pb2 import (
    ARTIFACT_ROLE_POSTER,
    ARTIFACT_ROLE_PROVENANCE,
    ARTIFACT_ROLE_THUMBNAIL,
    Artifact,
)
from callsheet.tasks.v1.edit_video_pb2 import EditVideoOutput
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingOutput


def packed(message: Message) -> AnyMessage:
    content = AnyMessage()
    content.Pack(message)
    return content


def test_every_artifact_of_an_output_is_found_in_order() -> None:
    output = GenerateImageOutput(images=[Artifact(key="a"), Artifact(key="b")])
    found = artifacts_in(unpacked(packed(output).SerializeToString()))
    assert [artifact.key for artifact in found] == ["a", "b"]


def test_media_are_the_artifacts_that_were_asked_for() -> None:
    output = EditVideoOutput(
        video=Artifact(key="film"),
        poster=Artifact(key="poster", role=ARTIFACT_ROLE_POSTER),
        thumbnail=Artifact(key="small", role=ARTIFACT_ROLE_THUMBNAIL),
        provenance=Artifact(key="made", role=ARTIFACT_ROLE_PROVENANCE),
    )
    assert [each.key for each in media_in(output)] == ["film"]
    assert [each.key for each in artifacts_in(output)] == ["film", "poster", "small", "made"]


def test_an_artifact_itself_and_one_within_an_any_are_found() -> None:
    assert [artifact.key for artifact in artifacts_in(Artifact(key="a"))] == ["a"]
    assert [artifact.key for artifact in artifacts_in(packed(Artifact(key="b")))] == ["b"]


def test_an_output_without_artifacts_has_none() -> None:
    assert list(artifacts_in(PingOutput(echo="x"))) == []


@pytest.mark.parametrize(
    "content",
    [
        AnyMessage(type_url="type.googleapis.com/somebody.Elses").SerializeToString(),
        AnyMessage(
            type_url="type.googleapis.com/callsheet.tasks.v1.PingOutput", value=b"\xff"
        ).SerializeToString(),
        b"\xff",
        b"",
    ],
)
def test_an_output_that_cannot_be_understood_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="output"):
        unpacked(content)
