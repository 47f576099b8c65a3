"""What a task is about, for the types there are and for those to come."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2
from google.protobuf.message import Message

from callsheet.ledger.about import LONGEST_WORDS, words_of
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1.task_spec_pb2 import TaskSpec

_Field = descriptor_pb2.FieldDescriptorProto


def of_a_type_to_come(fields: dict[str, str | list[str]]) -> Message:
    """Return a message with these strings, of a type that nothing here knows."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{abs(hash(str(fields)))}.proto", package="later"
    )
    kind = file.message_type.add(name="Input")
    for number, (name, value) in enumerate(fields.items(), start=1):
        label = _Field.LABEL_REPEATED if isinstance(value, list) else _Field.LABEL_OPTIONAL
        kind.field.add(name=name, number=number, type=_Field.TYPE_STRING, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("later.Input"))
    return made(**fields)


def test_a_prompt_is_what_an_image_is_about() -> None:
    asked = GenerateImageInput(prompt="a lighthouse", negative_prompt="blur", model="tiny-random")
    assert words_of(TaskSpec(generate_image=asked)) == "a lighthouse"


def test_a_task_without_words_is_about_nothing() -> None:
    assert words_of(TaskSpec(ping=PingInput())) == ""


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"script": "INT. NIGHT", "tags": ["noir", "rain"]}, "INT. NIGHT\nnoir\nrain"),
        ({"negative_prompt": "blur", "excluded_words": "dog", "lyrics": "la la"}, "la la"),
        ({"model": "flux", "voice": "ana", "agent_id": "a-1", "text": "Hello."}, "Hello."),
        ({"question": "who?", "source_uri": "s3://b/k", "language": "en"}, "who?"),
        ({"notes": "https://media.example/a.png", "title": "42"}, ""),
        ({"notes": "see https://media.example/a.png"}, "see https://media.example/a.png"),
        ({"description": "夜の灯台"}, "夜の灯台"),
    ],
)
def test_strings_that_people_would_write_are_words(
    fields: dict[str, str | list[str]], words: str
) -> None:
    assert words_of(of_a_type_to_come(fields)) == words


def test_messages_within_are_looked_into_and_names_within_maps_count() -> None:
    inner = struct_pb2.Struct()
    inner.update({"scene": "a harbour", "voice": "ana"})
    words = words_of(inner)
    assert "a harbour" in words


def test_words_have_a_limit() -> None:
    assert len(words_of(GenerateImageInput(prompt="x " * LONGEST_WORDS))) == LONGEST_WORDS
