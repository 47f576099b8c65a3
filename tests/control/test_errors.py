"""The one table from refusals to gRPC."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc import StatusCode

from callsheet.control import refusals
from callsheet.control.errors import (
    DOMAIN,
    MEANINGS,
    Refused,
    meaning,
    sentence,
    status,
    to_refusal,
    trailing_metadata,
)
from callsheet.ledger import errors
from callsheet.ledger.model import TaskState

EXAMPLES: list[Refused] = [
    errors.TaskNotFound("t-1"),
    errors.DeliveryNotFound("e_t-1_3"),
    errors.ProjectNotFound("elsewhere"),
    errors.RoleMissing("submit"),
    errors.KeyInvalid(),
    errors.KeyNeeded(),
    errors.TicketNeeded(),
    errors.TicketExpired(),
    errors.TicketRevoked(),
    errors.TicketNotRenewable(),
    errors.QueueNotFound("nobody"),
    errors.WorkerNotFound("w-1"),
    errors.InvalidField((("spec.ping.echo", "is too long"),)),
    errors.ModelUnknown(field="spec.generate_image.model", model="x", known=("a", "b")),
    errors.MemoryInsufficient(
        fields=("spec.generate_image.width", "spec.generate_image.height"),
        model="film",
        asked="2048x2048",
        needed="25.5 GB",
        most="8.6 GB",
        fitting="448x448",
    ),
    errors.RequestIdReused("r-1", "t-1"),
    errors.IllegalTransition("t-1", TaskState.SUCCEEDED, "cancel"),
    errors.LeaseLost("t-1", 2),
    errors.PageTokenInvalid(),
    errors.SequenceAhead("t-1", 9, 3),
    errors.EpochChanged("old", "new"),
    errors.CursorLost("1-0"),
    errors.LedgerFull(81, 100),
    errors.LedgerBusy(20_000),
    errors.LedgerUnavailable("ConnectionError: /var/run/secret.sock"),
    errors.ConflictUnresolved("t-1", 8),
    errors.UnknownVersion("event", 7),
    refusals.MessageMalformed("callsheet.v1.GetTaskRequest"),
    refusals.DeadlinePassed(timedelta(seconds=30)),
    refusals.ServiceUnknown("x"),
    refusals.ShuttingDown(),
    refusals.WatchersFull(1_000),
    refusals.ProjectWatchersFull("film", 500),
    refusals.Defect("c0ffee"),
]


def _subclasses(kind: type[Exception]) -> Iterator[type[Exception]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def test_every_refusal_has_a_meaning() -> None:
    refused = {*_subclasses(errors.LedgerError), *_subclasses(refusals.EdgeRefusal)}
    # A room above may refine an error for itself; it is not for clients.
    known = {kind for kind in refused if kind.__module__.startswith("callsheet.")}
    assert {kind for kind in known if kind not in MEANINGS} == set()


def test_every_refusal_is_tried_here() -> None:
    assert {type(example) for example in EXAMPLES} == set(MEANINGS)


@pytest.mark.parametrize("refusal", EXAMPLES, ids=lambda refusal: type(refusal).__name__)
def test_every_refusal_tells_its_reason_and_our_domain(refusal: Refused) -> None:
    found = ErrorInfo()
    assert status(refusal).details[0].Unpack(found)
    assert found.domain == DOMAIN
    assert found.reason == meaning(refusal).reason
    assert found.reason.isupper()


@pytest.mark.parametrize("refusal", EXAMPLES, ids=lambda refusal: type(refusal).__name__)
def test_every_value_in_the_sentence_stands_in_the_metadata(refusal: Refused) -> None:
    found = ErrorInfo()
    status(refusal).details[0].Unpack(found)
    shown = sentence(refusal)
    for name, value in vars(refusal).items():
        if str(value) in shown:
            assert found.metadata[name] == str(value)


def test_a_missing_key_has_a_reason_of_its_own() -> None:
    assert meaning(errors.KeyInvalid(missing=True)).reason == "KEY_MISSING"
    assert meaning(errors.KeyInvalid()).reason == "KEY_INVALID"


def test_what_the_ledger_says_of_its_store_is_not_for_clients() -> None:
    refusal = errors.LedgerUnavailable("ConnectionError: /var/run/secret.sock")
    assert b"secret.sock" not in status(refusal).SerializeToString()
    assert "secret.sock" not in sentence(refusal)


@pytest.mark.parametrize(
    "refusal",
    [example for example in EXAMPLES if hasattr(example, "retry_delay")],
    ids=lambda refusal: type(refusal).__name__,
)
def test_what_passes_says_when_to_come_back(refusal: Refused) -> None:
    found = RetryInfo()
    assert status(refusal).details[-1].Unpack(found)
    assert found.retry_delay.ToTimedelta() > timedelta(0)
    assert to_refusal(refusal).retry_delay == found.retry_delay
    assert meaning(refusal).code in {
        StatusCode.UNAVAILABLE,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.ABORTED,
    }


def test_a_refusal_names_each_field_at_fault() -> None:
    refusal = errors.InvalidField((("a", "is wrong"), ("b", "is worse")))
    found = BadRequest()
    assert status(refusal).details[1].Unpack(found)
    assert [violation.field for violation in found.field_violations] == ["a", "b"]
    assert sentence(refusal) == "a: is wrong (and 1 more)"


def test_an_error_fits_into_trailing_metadata_whatever_it_tells() -> None:
    many = tuple((f"metadata[{'ß' * 1000}]", "ß" * 1000) for _ in range(1000))
    refusal = errors.InvalidField(many)
    ((_, content),) = trailing_metadata(refusal)
    percent_encoded = 3 * len(sentence(refusal).encode())
    assert len(content) + percent_encoded < 8192


def test_the_refusal_of_a_batch_item_tells_what_a_call_would() -> None:
    refusal = errors.ModelUnknown(field="spec.generate_image.model", model="x", known=("a",))
    found = to_refusal(refusal)
    assert found.code == StatusCode.INVALID_ARGUMENT.value[0]
    assert found.reason == "MODEL_NOT_FOUND"
    assert found.violations[0].field == "spec.generate_image.model"
    assert "'x'" in found.message
    assert not found.HasField("retry_delay")
