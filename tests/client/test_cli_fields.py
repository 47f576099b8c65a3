"""Every kind of field has an option, and what is typed becomes the message."""

from __future__ import annotations

import argparse
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import descriptor_pb2, duration_pb2, timestamp_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass

from callsheet.client.cli.exits import UsageError
from callsheet.client.cli.fields import add_fields, read_input
from callsheet.client.cli.spans import parse_span, show_span
from callsheet.client.task_types import task_types
from callsheet.tasks.v1.generate_image_pb2 import IMAGE_FORMAT_WEBP, GenerateImageInput

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

_TYPES = {
    "text": Field.TYPE_STRING,
    "small": Field.TYPE_INT32,
    "large": Field.TYPE_UINT64,
    "ratio": Field.TYPE_DOUBLE,
    "flag": Field.TYPE_BOOL,
    "raw": Field.TYPE_BYTES,
}


def made_message() -> type[Message]:
    """A message with a field of every kind, as a task type to come may have."""
    pool = DescriptorPool()
    for known in (duration_pb2, timestamp_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="every.proto",
        package="every",
        syntax="proto3",
        dependency=["google/protobuf/duration.proto", "google/protobuf/timestamp.proto"],
    )
    enum = file.enum_type.add(name="ColourTone")
    for number, name in enumerate(("UNSPECIFIED", "WARM", "VERY_COLD")):
        enum.value.add(name=f"COLOUR_TONE_{name}", number=number)
    point = file.message_type.add(name="Point")
    point.field.add(name="x", number=1, type=Field.TYPE_INT32, label=Field.LABEL_OPTIONAL)
    every = file.message_type.add(name="EveryInput")

    def add(name: str, kind: Field.Type.ValueType, type_name: str = "") -> None:
        repeated = name.endswith("s")
        every.field.add(
            name=name,
            number=len(every.field) + 1,
            type=kind,
            type_name=type_name or None,
            label=Field.LABEL_REPEATED if repeated else Field.LABEL_OPTIONAL,
        )

    for name, kind in _TYPES.items():
        add(name, kind)
        add(f"{name}_s", kind)
    add("tone", Field.TYPE_ENUM, ".every.ColourTone")
    add("tones", Field.TYPE_ENUM, ".every.ColourTone")
    add("length", Field.TYPE_MESSAGE, ".google.protobuf.Duration")
    add("start", Field.TYPE_MESSAGE, ".google.protobuf.Timestamp")
    add("point", Field.TYPE_MESSAGE, ".every.Point")
    add("points", Field.TYPE_MESSAGE, ".every.Point")
    add("json", Field.TYPE_STRING)
    entry = every.nested_type.add(name="WeightsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Field.TYPE_STRING, label=Field.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=Field.TYPE_DOUBLE, label=Field.LABEL_OPTIONAL)
    add("weights", Field.TYPE_MESSAGE, ".every.EveryInput.WeightsEntry")
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("every.EveryInput"))


EVERY = made_message()


def read(*arguments: str, input_class: type[Message] = EVERY) -> dict[str, Any]:
    """What the arguments become, as protobuf JSON with the contract's names."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--json", action="store_true")
    add_fields(parser, input_class)
    options = vars(parser.parse_args(arguments))
    message = read_input(input_class, options=options, json_input=None)
    return MessageToDict(message, preserving_proto_field_name=True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--text", "a kite"], {"text": "a kite"}),
        (["--text", ""], {}),
        (["--small", "-3"], {"small": -3}),
        (["--large", "18446744073709551615"], {"large": "18446744073709551615"}),
        (["--ratio", "1.5"], {"ratio": 1.5}),
        (["--flag"], {"flag": True}),
        (["--no-flag"], {}),
        (["--raw", "AAE="], {"raw": "AAE="}),
        (["--text-s", "a", "--text_s", "b"], {"text_s": ["a", "b"]}),
        (["--small-s", "1", "--small-s", "2"], {"small_s": [1, 2]}),
        (["--flag-s", "true", "--flag-s", "false"], {"flag_s": [True, False]}),
        (["--tone", "warm"], {"tone": "COLOUR_TONE_WARM"}),
        (["--tone", "very-cold"], {"tone": "COLOUR_TONE_VERY_COLD"}),
        (["--tone", "COLOUR_TONE_WARM"], {"tone": "COLOUR_TONE_WARM"}),
        (["--tones", "warm", "--tones", "WARM"], {"tones": ["COLOUR_TONE_WARM"] * 2}),
        (["--length", "1m30s"], {"length": "90s"}),
        (["--length", "0.5"], {"length": "0.500s"}),
        (["--start", "2026-01-01T12:00:00Z"], {"start": "2026-01-01T12:00:00Z"}),
        (["--point", '{"x": 3}'], {"point": {"x": 3}}),
        (["--points", '{"x": 3}', "--points", "{}"], {"points": [{"x": 3}, {}]}),
        (["--weights", "a=1", "--weights", "b=2.5"], {"weights": {"a": 1.0, "b": 2.5}}),
        (["--input-json", "taken"], {"json": "taken"}),
    ],
    ids=str,
)
def test_what_is_typed_becomes_the_message(
    arguments: list[str], expected: dict[str, object]
) -> None:
    assert read(*arguments) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        ["--small", "three"],
        ["--ratio", "much"],
        ["--flag-s", "yes"],
        ["--tone", "loud"],
        ["--length", "soon"],
        ["--length", "1y"],
        ["--point", "{x"],
        ["--weights", "a"],
        ["--weights", "a=much"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_read_is_an_error_of_usage(arguments: list[str]) -> None:
    with pytest.raises(argparse.ArgumentError):
        read(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--small", "9999999999"],
        ["--large", "-1"],
        ["--start", "yesterday"],
        ["--point", '{"y": 1}'],
        ["--point", "3"],
    ],
    ids=" ".join,
)
def test_what_the_contract_does_not_allow_is_an_error_of_usage(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="not a EveryInput"):
        read(*arguments)


def test_options_stand_in_place_of_fields_of_the_json(tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_text(json.dumps({"text": "json", "smallS": [1, 2], "small": 7}))
    parser = argparse.ArgumentParser()
    add_fields(parser, EVERY)
    options = vars(parser.parse_args(["--small-s", "3", "--text", "typed"]))
    message = read_input(EVERY, options=options, json_input=str(file))
    assert MessageToDict(message, preserving_proto_field_name=True) == {
        "text": "typed",
        "small": 7,
        "small_s": [3],
    }


@pytest.mark.parametrize("content", [b"{", b'{"unknown": 1}', b"\xff"])
def test_a_json_file_that_cannot_be_read_is_an_error_of_usage(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "input.json"
    file.write_bytes(content)
    with pytest.raises(UsageError):
        read_input(EVERY, options={}, json_input=str(file))


def test_a_json_file_that_is_not_there_is_an_error_of_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        read_input(EVERY, options={}, json_input=str(tmp_path / "none.json"))


def test_the_real_input_is_read() -> None:
    parser = argparse.ArgumentParser()
    add_fields(parser, GenerateImageInput)
    arguments = ["--prompt", "x", "--guidance-scale", "7.5", "--format", "webp", "--seed", "0"]
    message = read_input(
        GenerateImageInput, options=vars(parser.parse_args(arguments)), json_input=None
    )
    assert message == GenerateImageInput(
        prompt="x", guidance_scale=7.5, format=IMAGE_FORMAT_WEBP, seed=0
    )


@pytest.mark.parametrize("name", task_types())
def test_every_task_type_has_an_option_for_every_field(name: str) -> None:
    input_class = task_types()[name].input_class
    parser = argparse.ArgumentParser()
    add_fields(parser, input_class)
    usage = parser.format_help()
    for field in input_class.DESCRIPTOR.fields:
        assert f"--{field.name.replace('_', '-')}" in usage


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90", timedelta(seconds=90)),
        ("0.5s", timedelta(seconds=0.5)),
        ("200ms", timedelta(milliseconds=200)),
        ("1.5m", timedelta(seconds=90)),
        ("1h30m", timedelta(minutes=90)),
        ("30d", timedelta(days=30)),
    ],
)
def test_a_span_is_read(text: str, span: timedelta) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 s", "1x", "1h,2m", "9" * 40 + "d", "\u0661s"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a span of time"):
        parse_span(text)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(seconds=2.5), "2.5s"),
        (timedelta(seconds=90), "1m 30s"),
        (timedelta(hours=1), "1h"),
        (timedelta(seconds=0), "0s"),
    ],
)
def test_a_span_is_shown(span: timedelta, text: str) -> None:
    assert show_span(span) == text
