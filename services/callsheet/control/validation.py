"""Checks requests against the rules that stand in the contract, before anything is written."""

from collections.abc import Iterator, Mapping
from typing import Final

from google.protobuf.message import Message
from protovalidate import FieldPathElementPb, Validator, ViolationPb

from callsheet.control.callbacks import CallbackRules
from callsheet.control.model_uses import check_models
from callsheet.control.references import foreign_references, references_in
from callsheet.control.times import malformed_times
from callsheet.ledger.access import Principal
from callsheet.ledger.catalog import TaskType
from callsheet.ledger.errors import InvalidField
from callsheet.runtime.models import Catalogue
from callsheet.v1.task_service_pb2 import ListTasksRequest, SubmitTaskRequest, WatchTasksRequest

#: Characters of a map's key that a path shows.
_KEY_SHOWN: Final = 64


class Validation:
    """Checks requests; one for all calls, because it compiles each message's rules once."""

    def __init__(
        self,
        task_types: Mapping[str, TaskType],
        models: Catalogue,
        callbacks: CallbackRules,
    ) -> None:
        self._task_types = task_types
        self._models = models
        self._callbacks = callbacks
        self._validator = Validator()

    def check(self, request: Message) -> None:
        """Raise InvalidField when the request breaks a rule of its message."""
        broken = self._validator.collect_violations(request)
        if broken:
            raise InvalidField(tuple(_violation(violation.proto) for violation in broken))
        if malformed := malformed_times(request):
            raise InvalidField(tuple(malformed))

    def check_submission(self, request: SubmitTaskRequest, principal: Principal) -> None:
        """Check what a submission's message says, and what it names.

        Raises:
            InvalidField: a field breaks a rule, refers to a file of another project, or asks a
                model for what it cannot do.
            ProjectNotFound: it refers to files, and its project is none of the principal's.
            ModelUnknown: the input names a model that is not in the catalogue.
        """
        self.check(request)
        if request.HasField("callback"):
            self._callbacks.check(request.callback.url)
        self._check_references(request, principal)
        self._check_models(request)

    def check_list(self, request: ListTasksRequest) -> None:
        """Check the request of a list. Raises InvalidField."""
        self.check(request)
        if request.task_type:
            self._check_type("task_type", request.task_type)

    def check_watch(self, request: WatchTasksRequest) -> None:
        """Check the request of a watch of many tasks. Raises InvalidField."""
        self.check(request)
        for place, task_type in enumerate(request.task_types):
            self._check_type(f"task_types[{place}]", task_type)

    def _check_type(self, path: str, task_type: str) -> None:
        if task_type not in self._task_types:
            known = ", ".join(sorted(self._task_types))
            problem = f"there is no task type {task_type!r}; known are {known}"
            raise InvalidField(((path, problem),))

    def _check_models(self, request: SubmitTaskRequest) -> None:
        task_type = request.spec.WhichOneof("input") or ""
        check_models(getattr(request.spec, task_type), self._models, path=f"spec.{task_type}")

    def _check_references(self, request: SubmitTaskRequest, principal: Principal) -> None:
        if next(references_in(request.spec, path=""), None) is None:
            return
        project = principal.project(request.project)
        if foreign := tuple(foreign_references(request.spec, project=project, path="spec")):
            raise InvalidField(foreign)


def _violation(violation: ViolationPb) -> tuple[str, str]:
    elements = violation.field.elements if violation.field else ()
    path = ".".join(_place(element) for element in elements)
    subject = "the key " if violation.for_key else ""
    return path, f"{subject}{violation.message or violation.rule_id}"


def _place(element: FieldPathElementPb) -> str:
    name = element.field_name
    subscript = element.subscript
    if subscript is None:
        return name
    if subscript.field == "string_key":
        shown = str(subscript.value)
        shown = shown if len(shown) <= _KEY_SHOWN else f"{shown[:_KEY_SHOWN]}…"
        return f"{name}[{_quoted(shown)}]"
    return f"{name}[{subscript.value}]"


def _quoted(text: str) -> str:
    return '"' + "".join(_escaped(text)) + '"'


def _escaped(text: str) -> Iterator[str]:
    for character in text:
        if character in '"\\':
            yield f"\\{character}"
        else:
            yield character if character.isprintable() else f"\\u{ord(character):04x}"
