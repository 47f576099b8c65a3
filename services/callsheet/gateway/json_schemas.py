"""JSON schemas of the contract's messages, with the rules that stand in it."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from buf.validate import validate_pb2

Schema = dict[str, object]

_F = FieldDescriptor
#: The JSON of messages that is no object of their fields.
_WELL_KNOWN: Final[Mapping[str, Schema]] = MappingProxyType(
    {
        "google.protobuf.Any": {
            "type": "object",
            "properties": {"@type": {"type": "string"}},
        },
        "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
        "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    }
)
_NUMBERS: Final[Mapping[int, Schema]] = MappingProxyType(
    {
        _F.CPPTYPE_INT32: {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
        _F.CPPTYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
        _F.CPPTYPE_INT64: {"type": ["integer", "string"], "format": "int64"},
        _F.CPPTYPE_UINT64: {"type": ["integer", "string"], "format": "uint64"},
        _F.CPPTYPE_FLOAT: {"type": "number"},
        _F.CPPTYPE_DOUBLE: {"type": "number"},
        _F.CPPTYPE_BOOL: {"type": "boolean"},
    }
)
#: What a rule for a text, a list or a map is in a schema.
_SIZES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "min_len": "minLength",
        "max_len": "maxLength",
        "pattern": "pattern",
        "min_items": "minItems",
        "max_items": "maxItems",
        "unique": "uniqueItems",
        "min_pairs": "minProperties",
        "max_pairs": "maxProperties",
        "gte": "minimum",
        "lte": "maximum",
    }
)


class ContractSchemas:
    """Makes the schemas of messages, and keeps those that others refer to.

    With *canonical* fields are in camelCase, as proto JSON writes them, and schemas have the full
    names of their messages; else both are in the contract's own words.
    """

    def __init__(self, *, canonical: bool) -> None:
        self._canonical = canonical
        #: The schemas by name, as they stand in a document's components.
        self.components: dict[str, Schema] = {}

    def of(self, message: Descriptor) -> Schema:
        """Return a reference to a message's schema."""
        if message.full_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[message.full_name])
        name = message.full_name if self._canonical else message.name
        if name not in self.components:
            self.components[name] = {}  # a message may hold itself
            self.components[name] = self._object(message)
        return reference(name)

    def _object(self, message: Descriptor) -> Schema:
        fields = cast("Iterable[FieldDescriptor]", message.fields)
        found: Schema = {
            "type": "object",
            "additionalProperties": False,
            "properties": {self._name(field): self._field(field) for field in fields},
        }
        required = [self._name(field) for field in fields if _rules(field).required]
        if required:
            found["required"] = required
        return found

    def _name(self, field: FieldDescriptor) -> str:
        return field.json_name if self._canonical else field.name

    def _field(self, field: FieldDescriptor) -> Schema:
        rules = _rules(field)
        message = field.message_type
        if message is not None and message.GetOptions().map_entry:
            values = self._single(message.fields_by_name["value"], rules.map.values)
            return {"type": "object", "additionalProperties": values} | _sizes(rules.map)
        if field.is_repeated:
            items = self._single(field, rules.repeated.items)
            return {"type": "array", "items": items} | _sizes(rules.repeated)
        return self._single(field, rules)

    def _single(self, field: FieldDescriptor, rules: validate_pb2.FieldRules) -> Schema:
        if field.message_type is not None:
            return self.of(field.message_type)
        if field.enum_type is not None:
            return _enum(field.enum_type, rules)
        if field.type == _F.TYPE_BYTES:
            return {"type": "string", "format": "byte"}
        if field.cpp_type == _F.CPPTYPE_STRING:
            extra: Schema = {"format": "uuid"} if rules.string.uuid else {}
            return {"type": "string"} | _sizes(rules.string) | extra
        return dict(_NUMBERS[field.cpp_type]) | _number_rules(rules)


def reference(name: str) -> Schema:
    """Return a reference to a schema of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def _enum(enum: EnumDescriptor, rules: validate_pb2.FieldRules) -> Schema:
    refused = set(rules.enum.not_in)
    return {"enum": [value.name for value in enum.values if value.number not in refused]}


def _number_rules(rules: validate_pb2.FieldRules) -> Schema:
    kind = rules.WhichOneof("type")
    if kind is None:
        return {}
    return _sizes(cast("Message", getattr(rules, kind)))


def _sizes(rules: Message) -> Schema:
    """Return what the rules say of a size or a range, in a schema's words."""
    fields = cast("list[tuple[FieldDescriptor, Any]]", rules.ListFields())
    return {_SIZES[field.name]: value for field, value in fields if field.name in _SIZES}


def _rules(field: FieldDescriptor) -> validate_pb2.FieldRules:
    options = cast("Any", field.GetOptions())
    return cast("validate_pb2.FieldRules", options.Extensions[validate_pb2.field])
