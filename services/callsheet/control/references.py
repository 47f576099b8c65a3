"""The files that a submission refers to: its own project's, and nobody else's."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from callsheet.tasks.v1.media_pb2 import MediaReference

#: The project in a reference's key; the contract's own rule has seen that there is one.
_PROJECT: Final = re.compile(r"(?:^|/)projects/([^/]+)/(?:tasks/[^/]+|uploads)/[^/]+$")


def foreign_references(spec: Message, *, project: str, path: str) -> Iterator[tuple[str, str]]:
    """Yield the path of each reference to a file of another project, and what is wrong with it.

    *path* is where the spec stands in its request. What is said does not tell whether there is such
    a project, or such a file.
    """
    for place, reference in references_in(spec, path=path):
        found = _PROJECT.search(reference.uri)
        if found is None or found[1] != project:
            yield f"{place}.uri", "must name an artifact or an upload of the task's own project"


def references_in(message: Message, *, path: str) -> Iterator[tuple[str, MediaReference]]:
    """Yield every reference within the message, and where it stands."""
    if isinstance(message, MediaReference):
        yield path, message
        return
    for field, value in cast("list[tuple[FieldDescriptor, object]]", message.ListFields()):
        if field.message_type is None or not _may_refer(field.message_type):
            continue
        if field.is_repeated:
            for number, each in enumerate(cast("Iterable[Message]", value)):
                yield from references_in(each, path=f"{path}.{field.name}[{number}]")
        else:
            yield from references_in(cast("Message", value), path=f"{path}.{field.name}")


@cache
def _may_refer(descriptor: Descriptor) -> bool:
    """Whether a reference may stand anywhere within; a spec's messages do not nest themselves."""
    return descriptor.full_name == MediaReference.DESCRIPTOR.full_name or any(
        _may_refer(field.message_type)
        for field in descriptor.fields
        if field.message_type is not None
    )
