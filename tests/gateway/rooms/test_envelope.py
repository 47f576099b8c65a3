"""The envelope: what is taken, what is refused, and by which name."""

from datetime import UTC, datetime

import pytest

from callsheet.gateway.rooms.envelope import (
    Authenticate,
    EnvelopeInvalid,
    Join,
    Published,
    decode,
    decode_publication,
    encode,
    id_of,
    stamped,
)

TASK = "task:01234567-89ab-cdef-0123-456789abcdef"


def refusal(text: str) -> EnvelopeInvalid:
    with pytest.raises(EnvelopeInvalid) as caught:
        decode(text)
    return caught.value


def test_a_join_says_where_to_go_on() -> None:
    said = decode(f'{{"type": "JOIN", "room": "{TASK}", "sequence": 3, "epoch": "e1", "id": "7"}}')
    assert said == Join(room=TASK, sequence=3, epoch="e1", id="7")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"type": "JOIN"}', "room"),
        ('{"type": "JOIN", "room": "task:1"}', "room"),
        ('{"type": "JOIN", "room": "tasks:p"}', "room"),
        ('{"type": "JOIN", "room": "workflow:a\\nb"}', "room"),
        ('{"type": "JOIN", "room": "workflow:w1\\n"}', "room"),
        ('{"type": "JOIN", "room": "workflow:w", "project": "a/b"}', "project"),
        ('{"type": "JOIN", "room": "workflow:w", "project": "a\\n"}', "project"),
        ('{"type": "JOIN", "room": "workflow:w", "sequence": -1}', "sequence"),
        ('{"type": "JOIN", "room": "workflow:w", "rooms": []}', "rooms"),
        ('{"type": "SHOUT"}', "type"),
        ('{"type": 5}', "type"),
        ("{}", "type"),
        ('{"type": "NOTIFICATION", "room": "project:p", "data": []}', "data"),
        ('{"type": "PING", "id": "' + "x" * 65 + '"}', "id"),
    ],
)
def test_a_field_at_fault_is_named(text: str, field: str) -> None:
    error = refusal(text)
    assert error.reason == "FIELD_INVALID"
    assert [violation.field for violation in error.violations] == [field]


@pytest.mark.parametrize("text", ["", "{", "x", '{"type": NaN}', "\0", '{"type": "PING"} x'])
def test_what_is_no_json_is_malformed(text: str) -> None:
    assert refusal(text).reason == "MESSAGE_MALFORMED"


def test_the_place_of_the_fault_is_told() -> None:
    assert "byte 9" in str(refusal('{"type": x}'))


@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_what_is_nested_without_end_is_refused(depth: int) -> None:
    text = '{"type": "NOTIFICATION", "data": {"a": ' + "[" * depth + "]" * depth + "}}"
    assert refusal(text).reason in {"MESSAGE_MALFORMED", "FIELD_INVALID"}


def test_a_number_of_a_thousand_digits_is_refused() -> None:
    text = '{"type": "NOTIFICATION", "data": {"a": ' + "9" * 10_000 + "}}"
    assert refusal(text).violations


def test_only_what_clients_tell_one_another_is_published() -> None:
    assert isinstance(decode_publication(b'{"type": "NOTIFICATION", "to": "x"}'), Published)
    with pytest.raises(EnvelopeInvalid):
        decode_publication(b'{"type": "TASK_UPDATE"}')
    with pytest.raises(EnvelopeInvalid):
        decode_publication(b'{"type": "AUTHENTICATE", "key": "k"}')


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(decode('{"type": "AUTHENTICATE", "key": "secret"}'))
    assert decode('{"type": "AUTHENTICATE", "key": "secret"}') == Authenticate(key="secret")


def test_what_says_nothing_is_left_out() -> None:
    assert encode("PONG", id="", sequence=None, signal=False) == '{"type":"PONG"}'


def test_zero_and_an_empty_object_say_something() -> None:
    assert encode("JOINED", sequence=0, data={}) == '{"type":"JOINED","sequence":0,"data":{}}'


def test_a_published_envelope_gets_its_place_and_its_time() -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    said = stamped(b'{"type":"NOTIFICATION"}', sequence=4, epoch="e", time=noon)
    assert said == (
        '{"type":"NOTIFICATION","sequence":4,"epoch":"e","time":"2030-01-01T12:00:00.000000Z"}'
    )
    signal = stamped(b'{"type":"NOTIFICATION"}', sequence=0, epoch="", time=noon)
    assert "sequence" not in signal


@pytest.mark.parametrize(
    ("text", "id_"), [('{"id": "a", "x": 1}', "a"), ("{", ""), ('{"id": 4}', ""), ("[]", "")]
)
def test_an_id_is_found_in_what_is_no_envelope(text: str, id_: str) -> None:
    assert id_of(text) == id_
