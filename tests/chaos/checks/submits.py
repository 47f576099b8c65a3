"""Invariants 1 and 10: what was acknowledged is there, once; what was refused is not."""

from collections import defaultdict

from msgspec import Struct, field

from tests.chaos.checks.report import Invariant, Report
from tests.chaos.checks.view import Outcome, View
from tests.chaos.final_state import StoredTask
from tests.chaos.history import CallAnswered, CallBegun, CallRefused, RefusedProbe


class _Request(Struct):
    """All calls of one request: its first one and its repetitions."""

    calls: list[tuple[CallBegun, Outcome | None]] = field(
        default_factory=list[tuple[CallBegun, Outcome | None]]
    )

    @property
    def answers(self) -> list[tuple[CallBegun, CallAnswered]]:
        return [(call, got) for call, got in self.calls if isinstance(got, CallAnswered)]

    @property
    def is_refused(self) -> bool:
        """Whether every call of it was refused by the server's own word."""
        return all(isinstance(got, CallRefused) for _, got in self.calls)


def check_submits(view: View, report: Report) -> None:
    """Check the requests that make tasks: SubmitTask and RetryTask."""
    requests: defaultdict[tuple[str, str, str], _Request] = defaultdict(_Request)
    for call, outcome in view.calls:
        if call.rpc in ("submit", "retry"):
            requests[call.rpc, call.project, call.request_id].calls.append((call, outcome))
    made = _made(view)
    for (rpc, project, request_id), request in requests.items():
        _check_answers(view, request_id, request, report)
        if rpc == "submit":
            tasks = made.get((project, request_id), [])
            _check_made(request_id, request, tasks, report)
    for project, request_id in made:
        known = ("submit", project, request_id) in requests
        sentence = "there is a task that nobody submitted"
        report.expect(Invariant.REFUSED, request_id, known, sentence)
    _check_retries(view, requests, report)


def check_refusals(view: View, report: Report) -> None:
    """Check that what was refused left its task as it was."""
    for probe in view.of(RefusedProbe):
        sentence = (
            f"{probe.rpc} was refused ({probe.code}), and {probe.before} became {probe.after}"
        )
        same = probe.before == probe.after and probe.code != "OK"
        report.expect(Invariant.REFUSED, probe.task_id, same, sentence)
    asked: defaultdict[str, list[Outcome | None]] = defaultdict(list)
    for call, outcome in view.calls:
        if call.rpc == "cancel":
            asked[call.task_id].append(outcome)
    for task in view.final.tasks:
        stops = [f.fact for f in task.facts if f.fact in ("cancel_requested", "task_cancelled")]
        outcomes = asked.get(task.task_id, [])
        if stops or outcomes:
            meant = any(not isinstance(outcome, CallRefused) for outcome in outcomes)
            sentence = f"it has {stops}, and of {len(outcomes)} calls to cancel none was accepted"
            report.expect(Invariant.REFUSED, task.task_id, meant or not stops, sentence)


def _made(view: View) -> dict[tuple[str, str], list[StoredTask]]:
    """Return the tasks by the request that the workload wrote into their metadata."""
    made: defaultdict[tuple[str, str], list[StoredTask]] = defaultdict(list)
    for task in view.final.tasks:
        if task.request_id and not task.retry_of:
            made[task.project, task.request_id].append(task)
    return dict(made)


def _check_answers(view: View, request_id: str, request: _Request, report: Report) -> None:
    ids = {answer.task_id for _, answer in request.answers}
    for call, answer in request.answers:
        task = view.tasks.get(answer.task_id)
        sentence = f"{call.rpc} was answered with task {answer.task_id}, which is not there"
        report.expect(Invariant.SUBMIT_KEPT, request_id, task, sentence)
        if task is not None:
            sentence = f"{call.project} was answered with a task of {task.project}"
            report.expect(Invariant.APART, request_id, task.project == call.project, sentence)
    if ids:
        sentence = f"repetitions of the request were answered with several tasks: {sorted(ids)}"
        report.expect(Invariant.SUBMIT_KEPT, request_id, len(ids) == 1, sentence)
        specs = {call.spec_digest for call, _ in request.answers}
        sentence = f"one request id was accepted for several specs: {sorted(specs)}"
        report.expect(Invariant.SUBMIT_KEPT, request_id, len(specs) == 1, sentence)


def _check_made(
    request_id: str, request: _Request, tasks: list[StoredTask], report: Report
) -> None:
    ids = [task.task_id for task in tasks]
    sentence = f"the request made several tasks: {ids}"
    report.expect(Invariant.SUBMIT_KEPT, request_id, len(ids) <= 1, sentence)
    if request.is_refused:
        codes = sorted({got.code for _, got in request.calls if isinstance(got, CallRefused)})
        sentence = f"every call of the request was refused ({codes}), and it made {ids}"
        report.expect(Invariant.REFUSED, request_id, not ids, sentence)
    asked = {call.spec_digest for call, got in request.calls if not isinstance(got, CallRefused)}
    for task in tasks:
        if task.spec_digest and not request.is_refused:
            sentence = f"the task has another spec than was asked for: {task.spec_digest}"
            report.expect(Invariant.SUBMIT_KEPT, request_id, task.spec_digest in asked, sentence)


def _check_retries(
    view: View, requests: dict[tuple[str, str, str], _Request], report: Report
) -> None:
    """A task is repeated at most once for each request that was not refused."""
    wanted: defaultdict[str, int] = defaultdict(int)
    for (rpc, _, _), request in requests.items():
        if rpc == "retry" and not request.is_refused:
            wanted[request.calls[0][0].task_id] += 1
    made: defaultdict[str, list[str]] = defaultdict(list)
    for task in view.final.tasks:
        if task.retry_of:
            made[task.retry_of].append(task.task_id)
    for task_id, repeated in made.items():
        sentence = f"{wanted[task_id]} requests repeated it, and made {repeated}"
        enough = len(repeated) <= wanted[task_id]
        report.expect(Invariant.SUBMIT_KEPT, task_id, enough, sentence)
