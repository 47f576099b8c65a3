"""Which tasks may be run together, and for which model a task waits."""

from hashlib import sha256
from typing import Final, NamedTuple

from google.protobuf.message import Message

from callsheet.runtime.input_defaults import InputFields, fields_of, fill_in
from callsheet.runtime.input_models import model_of
from callsheet.runtime.models import Catalogue, Model, ModelUnfit, UnknownModel
from callsheet.tasks.v1.media_pb2 import REPRODUCIBILITY_STRICT

#: How many things an input asks for, where it asks for more than one.
_COUNT: Final = "count"


class Company(NamedTuple):
    """What a task has in common with others that wait."""

    model: str
    """The model it needs first. Empty: none, or none that is known here."""
    batch_key: str
    """Equal for tasks that may be run together. Empty: it is run alone."""


def company_of(input_message: Message, catalogue: Catalogue) -> Company:
    """Return what an input has in common with others of its task type."""
    try:
        model = model_of(input_message, catalogue)
    except (UnknownModel, ModelUnfit):
        return Company("", "")
    if model is None:
        return Company("", "")
    return Company(model.name, _batch_key(input_message, model))


def _batch_key(input_message: Message, model: Model) -> str:
    fields = fields_of(input_message.DESCRIPTOR)
    if not fields.own_in_batch or _is_alone(input_message, fields):
        return ""
    shared = type(input_message)()
    shared.CopyFrom(input_message)
    fill_in(shared, fields, model=model)
    for name in (*fields.own_in_batch, *filter(None, [fields.reproducibility])):
        shared.ClearField(name)
    # With words to avoid and without are two kinds of work, whatever the words are.
    kinds = "".join(f"{_is_words(getattr(input_message, name)):d}" for name in fields.own_in_batch)
    content = shared.SerializeToString(deterministic=True)
    named = f"{input_message.DESCRIPTOR.full_name} {kinds}\0".encode()
    return sha256(named + content).hexdigest()


def _is_words(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_alone(input_message: Message, fields: InputFields) -> bool:
    """Tell whether an input asks for the same bits every time, or fills a batch by itself."""
    name = fields.reproducibility
    is_strict = bool(name) and getattr(input_message, name) == REPRODUCIBILITY_STRICT
    return is_strict or getattr(input_message, _COUNT, 1) > 1
