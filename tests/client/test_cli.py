"""The command `callsheet`, run as a process of its own against a real port."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from callsheet.client import TaskClient, Unavailable
from callsheet.client.cli.exits import MEANINGS, Exit, exit_code
from callsheet.client.cli.main import main
from callsheet.client.errors import ERROR_CLASSES
from callsheet.client.task_types import task_types
from callsheet.client.testing import (
    FakeTaskService,
    fail,
    hold,
    progress,
    running_fake,
    succeed,
)
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput
from callsheet.v1 import operations_service_pb2, task_pb2
from tests.client.shell import NOWHERE, Shell, objects

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fake() -> Iterator[FakeTaskService]:
    with running_fake() as service:
        yield service


@pytest.fixture
def shell(fake: FakeTaskService, tmp_path: Path) -> Shell:
    return Shell(tmp_path, CALLSHEET_GRPC_ADDRESS=fake.address, CALLSHEET_API_KEY=fake.key)


Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Runs the command in this process: for many small cases."""
    monkeypatch.chdir(shell.folder)
    monkeypatch.setenv("GRPC_VERBOSITY", "ERROR")  # main sets it; here it must not stay
    for name in ("CALLSHEET_GRPC_ADDRESS", "CALLSHEET_API_KEY"):
        monkeypatch.setenv(name, shell.environment[name])

    def run(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(arguments)
        except SystemExit as ended:  # the parser's way to end
            code = ended.code if isinstance(ended.code, int) else 1
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def client(fake: FakeTaskService) -> Iterator[TaskClient]:
    with TaskClient(fake.address, key=fake.key) as connected:
        yield connected


def test_submit_prints_the_id_alone(fake: FakeTaskService, shell: Shell) -> None:
    printed = shell.ok(
        *("submit", "generate_image", "--prompt", "a red kite", "--format", "webp"),
        *("--priority", "9", "--callback-url", "http://127.0.0.1:9/hook", "--delay", "1m"),
        *("--metadata", "user=ada", "--metadata", "k=a=b", "--request-id", "mine"),
        *("--expire-after", "1h", "--project", "test_project"),
        *("--callback-event", "started", "--callback-event", "progress"),
    )
    (request,) = fake.submissions
    assert printed == f"{fake.tasks[0].id}\n"
    assert request.spec.generate_image.prompt == "a red kite"
    assert request.priority == 9
    assert request.callback.url == "http://127.0.0.1:9/hook"
    assert list(request.callback.events) == [
        task_pb2.CALLBACK_EVENT_STARTED,
        task_pb2.CALLBACK_EVENT_PROGRESS,
    ]
    assert request.delay.seconds == 60
    assert request.expire_after.seconds == 3600
    assert request.metadata == {"user": "ada", "k": "a=b"}
    assert (request.request_id, request.project) == ("mine", "test_project")


def test_submit_reads_its_input_from_stdin(fake: FakeTaskService, shell: Shell) -> None:
    shell.ok("submit", "ping", "--json-input", "-", stdin='{"echo": "hello"}')
    assert fake.submissions[0].spec.ping.echo == "hello"


def test_submit_and_wait_prints_the_result(fake: FakeTaskService, shell: Shell) -> None:
    fake.script(PingInput, succeed(PingOutput(echo="hello")))
    done = shell.run("submit", "ping", "--wait")
    assert (done.returncode, done.stdout) == (0, 'echo: "hello"\n')
    assert done.stderr == f"task {fake.tasks[0].id}\n"


def test_submit_and_wait_answers_one_json_object(fake: FakeTaskService, shell: Shell) -> None:
    fake.script(PingInput, succeed(PingOutput(echo="hello")))
    (task,) = objects(shell.ok("submit", "ping", "--wait", "--json"))
    assert task["state"] == "TASK_STATE_SUCCEEDED"
    assert task["output"] == {
        "@type": "type.googleapis.com/callsheet.tasks.v1.PingOutput",
        "echo": "hello",
    }
    assert task["cancel_requested"] is False


def test_a_failed_task_ends_in_one_line(fake: FakeTaskService, shell: Shell) -> None:
    fake.script(PingInput, fail(task_pb2.FAILURE_REASON_OUT_OF_MEMORY, message="9\x1b[2J\nGiB"))
    task_id = shell.ok("submit", "ping").strip()
    assert shell.refused("wait", task_id) == (
        4,
        f"callsheet: task {task_id} failed: OUT_OF_MEMORY: 9 [2J GiB\n",
    )
    done = shell.run("wait", task_id, "--json")
    assert done.returncode == Exit.TASK_FAILED
    assert objects(done.stdout)[0]["failure"]["retryable"] is False


def test_get_shows_a_task(fake: FakeTaskService, client: TaskClient, here: Here) -> None:
    fake.script(PingInput, progress(1, total=2), succeed(PingOutput(echo="hello")))
    task_id = client.submit(PingInput()).wait().id
    text = here("get", task_id)[1]
    assert f"task:     {task_id}\n" in text
    assert "state:    SUCCEEDED\n" in text
    assert "progress: 50 %, 1 of 2\n" in text
    assert text.endswith('echo: "hello"\n')
    assert objects(here("get", task_id, "--json")[1])[0]["id"] == task_id


def test_list_is_a_table_or_one_object_a_line(client: TaskClient, here: Here) -> None:
    ids = [client.submit(PingInput()).id for _ in range(3)]
    table = here("list")[1].splitlines()
    assert table[0].split() == ["TASK", "TYPE", "STATE", "CREATED", "PROGRESS"]
    assert [line.split()[0] for line in table[1:]] == ids[::-1]
    assert len(here("list", "--limit", "2")[1].splitlines()) == 3
    listed = objects(here("list", "--json", "--limit", "2")[1])
    assert [task["id"] for task in listed] == ids[:0:-1]
    assert here("list", "--json", "--limit", "0", "--state", "failed") == (0, "", "")
    assert here("list", "--json", "--task-type", "generate_image") == (0, "", "")
    assert here("list", "--state", "failed")[1].splitlines() == table[:1]


def test_cancel_and_retry(fake: FakeTaskService, here: Here) -> None:
    fake.script(PingInput, hold())
    task_id = here("submit", "ping")[1].strip()
    (task,) = objects(here("cancel", task_id, "--reason", "enough", "--json")[1])
    assert task["cancel_reason"] == "enough"
    assert here("wait", task_id) == (
        4,
        "",
        f"callsheet: task {task_id} was cancelled: enough\n",
    )
    new_id = here("retry", task_id)[1].strip()
    assert fake.tasks[-1].id == new_id
    assert fake.tasks[-1].retry_of == task_id
    code, _, line = here("retry", new_id)
    assert code == Exit.REFUSED
    assert line.endswith("[ILLEGAL_TRANSITION]\n")


def test_operators_see_queues_workers_and_deliveries(
    fake: FakeTaskService, client: TaskClient, here: Here
) -> None:
    task_id = client.submit(PingInput()).id
    fake.workers.append(operations_service_pb2.Worker(id="w1", host="here", pid=7, device="cpu"))
    fake.deliveries.append(
        operations_service_pb2.Delivery(
            id="d1",
            task_id=task_id,
            url="http://127.0.0.1:9/hook",
            state=operations_service_pb2.DELIVERY_STATE_DEAD,
            last_error="refused",
        )
    )
    assert "system" in here("queues")[1]
    assert objects(here("queues", "--json")[1])[0]["ready"] == "0"
    assert "w1" in here("workers")[1]
    assert objects(here("workers", "--json")[1])[0]["pid"] == 7
    assert "DEAD" in here("deliveries", "list", task_id)[1]
    assert objects(here("deliveries", "list", task_id, "--json")[1])[0]["last_error"] == "refused"
    assert here("deliveries", "list", "--state", "waiting", "--json") == (0, "", "")


def test_operators_replay_deliveries(fake: FakeTaskService, here: Here) -> None:
    dead, delivered = (
        operations_service_pb2.DELIVERY_STATE_DEAD,
        operations_service_pb2.DELIVERY_STATE_DELIVERED,
    )
    for number, state in enumerate((dead, dead, delivered), start=1):
        fake.deliveries.append(
            operations_service_pb2.Delivery(
                id=f"d{number}", task_id="t", sequence=number, state=state
            )
        )
    assert here("deliveries", "replay", "--id", "d1") == (0, "1 replayed\n", "")
    assert here("deliveries", "replay", "--state", "dead", "--json") == (0, '{"replayed": 1}\n', "")
    assert here("deliveries", "replay", "--task", "t", "--from-sequence", "2")[1] == "2 replayed\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "say which"),
        (("--id", "a", "--task", "b"), "not allowed with"),
        (("--id", "a", "--state", "dead"), "stand alone"),
        (("--from-sequence", "3", "--state", "dead"), "belongs to --task"),
        (("--state", "dead", "--limit", "0"), "must be positive"),
        (("--state", "gone"), "invalid choice"),
        (("--after", "noon"), "is no time"),
    ],
)
def test_a_replay_says_which(here: Here, words: tuple[str, ...], why: str) -> None:
    code, _, line = here("deliveries", "replay", *words)
    assert code == Exit.USAGE
    assert why in line


def test_types_needs_no_plane_and_no_key(tmp_path: Path) -> None:
    alone = Shell(tmp_path)
    assert [line.split()[0] for line in alone.ok("types").splitlines()[1:]] == list(task_types())
    ping = next(each for each in objects(alone.ok("types", "--json")) if each["name"] == "ping")
    assert ping["queue"] == "system"
    assert ping["output_type"] == "callsheet.tasks.v1.PingOutput"


def test_in_the_folder_of_a_development_plane_its_key_is_used(
    fake: FakeTaskService, tmp_path: Path
) -> None:
    # Given a folder where a plane keeps its state, and no key in the environment
    (tmp_path / ".callsheet").mkdir()
    (tmp_path / ".callsheet" / "development.key").write_text(f"{fake.key}\n")
    shell = Shell(tmp_path, CALLSHEET_GRPC_ADDRESS=fake.address)
    # Then it is used when none is given, and only then
    shell.ok("list")
    assert shell.refused("list", "--key", "other")[0] == Exit.REFUSED


def test_the_project_may_stand_in_the_environment(fake: FakeTaskService, tmp_path: Path) -> None:
    shell = Shell(
        tmp_path,
        CALLSHEET_GRPC_ADDRESS=fake.address,
        CALLSHEET_API_KEY=fake.key,
        CALLSHEET_PROJECT="elsewhere",
    )
    assert shell.refused("submit", "ping") == (
        3,
        "callsheet: there is no project elsewhere [PROJECT_NOT_FOUND]\n",
    )
    shell.ok("submit", "ping", "--project", fake.project)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["get", "no-id"], Exit.REFUSED, "task_id: value must be a valid UUID [FIELD_INVALID]"),
        (["get", NOWHERE], Exit.REFUSED, f"there is no task {NOWHERE} [TASK_NOT_FOUND]"),
        (["watch", NOWHERE], Exit.REFUSED, "[TASK_NOT_FOUND]"),
        (["list", "--key", "wrong"], Exit.REFUSED, "the API key is not valid [KEY_INVALID]"),
        (["list", "--key", "a b"], Exit.USAGE, "the API key must be printable ASCII"),
        (["list", "--limit", "-1"], Exit.USAGE, "--limit must not be negative"),
        (["list", "--tls-ca", "none.pem"], Exit.USAGE, "cannot read none.pem"),
        (["watch", NOWHERE, "--after-sequence", "-1"], Exit.USAGE, "must not be negative"),
        (["submit", "ping", "--metadata", "a"], Exit.USAGE, "--metadata is key=value, not 'a'"),
        (["submit", "ping", "--duration", "soon"], Exit.USAGE, "not a span of time"),
        (["submit", "ping", "--json-input", "none.json"], Exit.USAGE, "cannot read none.json"),
        (["submit", "ping", "--wait", "--watch"], Exit.USAGE, "not allowed with argument"),
        (["submit", "nothing"], Exit.USAGE, "invalid choice: 'nothing'"),
        (["submit", "ping", "--ech", "x"], Exit.USAGE, "unrecognized arguments: --ech"),
        ([], Exit.USAGE, "the following arguments are required: COMMAND"),
        (["nothing"], Exit.USAGE, "invalid choice: 'nothing'"),
    ],
    ids=str,
)
def test_an_error_is_one_clear_line(
    here: Here, arguments: list[str], code: Exit, words: str
) -> None:
    returned, out, line = here(*arguments)
    assert (returned, out, line.count("\n")) == (code, "", 1)
    assert line.startswith("callsheet")
    assert words in line


def test_without_a_key_the_line_says_where_to_put_one(
    fake: FakeTaskService, tmp_path: Path
) -> None:
    code, line = Shell(tmp_path, CALLSHEET_GRPC_ADDRESS=fake.address).refused("list")
    assert code == Exit.USAGE
    assert "--key" in line
    assert "CALLSHEET_API_KEY" in line
    assert ".callsheet/development.key" in line


def test_a_plane_that_is_not_there_is_unavailable(shell: Shell) -> None:
    code, line = shell.refused("list", "--address", "127.0.0.1:1", "--call-timeout", "300ms")
    assert code == Exit.UNAVAILABLE
    assert "the plane at 127.0.0.1:1" in line


def test_a_plane_whose_ledger_is_away_says_so(fake: FakeTaskService, shell: Shell) -> None:
    fake.refuse("GetTask", Unavailable("the ledger is away", reason="LEDGER_UNAVAILABLE"), times=99)
    code, line = shell.refused("get", NOWHERE, "--call-timeout", "1s")
    assert code == Exit.UNAVAILABLE
    assert line == "callsheet: the ledger is away [LEDGER_UNAVAILABLE]\n"


def test_help_explains_every_exit_code(shell: Shell) -> None:
    text = shell.ok("--help")
    assert set(MEANINGS) == set(Exit)
    for code, meaning in MEANINGS.items():
        assert f"{code.value:<4} {meaning}" in text


def test_every_error_of_a_call_has_an_exit_code() -> None:
    codes = {each.__name__: exit_code(each("no")) for each in ERROR_CLASSES.values()}
    assert Exit.DONE not in codes.values()
    assert codes["Unauthenticated"] is codes["ResourceExhausted"] is Exit.REFUSED
    assert codes["Unavailable"] is codes["DeadlineExceeded"] is Exit.UNAVAILABLE
    assert codes["DataLoss"] is codes["Internal"] is Exit.BROKEN
