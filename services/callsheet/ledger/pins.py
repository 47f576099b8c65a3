"""Whether an output was made by the models that its submission was digested by."""

from collections.abc import Sequence

from google.protobuf.message import Message

from callsheet.artifacts.references import unpacked
from callsheet.ledger.model import PinnedModel


def ran(models: Sequence[PinnedModel], output: bytes) -> bool:
    """Return whether the packed output says that just these models made it.

    An output that does not say so, or cannot be read here, proves nothing: the answer is no.
    """
    if not models:
        return True
    try:
        told = unpacked(output)
    except ValueError:
        return False
    return all(
        _said(told, each.field) == each.name
        and _said(told, f"{each.field}_revision") == each.revision
        for each in models
    )


def _said(output: Message, field: str) -> str | None:
    """Return what the output says in the field; None: it has no such field."""
    if field not in output.DESCRIPTOR.fields_by_name:
        return None
    return str(getattr(output, field))
