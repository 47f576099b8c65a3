"""Runs made by hand for the tests of the checker: what a plane without a fault would leave."""

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from tests.chaos.checks.fold import fold
from tests.chaos.checks.told import BRAIN_WORDS, WEBHOOK_WORDS
from tests.chaos.checks.view import FINAL_FACTS
from tests.chaos.digests import digest_of_text
from tests.chaos.final_state import (
    BrainFact,
    FinalState,
    Receiver,
    StoredDelivery,
    StoredFact,
    StoredTask,
)
from tests.chaos.history import (
    CallAnswered,
    CallBegun,
    CallName,
    CallRefused,
    CallUnknown,
    FaultBegun,
    FaultEnded,
    Flow,
    ForeignProbe,
    Healed,
    ListedTask,
    Record,
    RefusedProbe,
    WatchEnded,
    WatchFact,
    WatchOpened,
    WebhookReceived,
    WorkEnded,
    WorkStarted,
)

EPOCH: Final = "e1"
RECEIVERS: Final = [
    Receiver(name="honest", url="http://127.0.0.1:7001/", honest=True),
    Receiver(name="sour", url="http://127.0.0.1:7002/", honest=False),
]
WISHES: Final = {"started": "STARTED", "retrying": "RETRYING"}


class Story:
    """Tells a run step by step; every step takes a tenth of a second."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._tasks: dict[str, StoredTask] = {}
        self._at = 100.0
        self._calls = 0
        self._writes = 0

    def tick(self, seconds: float = 0.1) -> float:
        """Return the time, later than before."""
        self._at += seconds
        return self._at

    def submit(
        self,
        name: str,
        *,
        project: str = "alpha",
        receiver: str = "",
        lost_replies: int = 0,
        repeated: int = 0,
        limit: int = 3,
    ) -> str:
        """Submit a task; some replies are lost before it is acknowledged, and some come again."""
        task_id, spec = f"task-{name}", digest_of_text([name])
        for turn in range(lost_replies + repeated + 1):
            call = self._call("submit", project, f"request-{name}", spec=spec, receiver=receiver)
            if turn < lost_replies:
                unknown = CallUnknown(at=self.tick(), call=call, code="UNAVAILABLE")
                self.records.append(unknown)
                continue
            self.records.append(CallAnswered(at=self.tick(), call=call, task_id=task_id))
        urls = {each.name: each.url for each in RECEIVERS}
        self._tasks[task_id] = StoredTask(
            task_id=task_id,
            project=project,
            sequence=0,
            attempt=0,
            facts=[],
            max_attempts=limit,
            callback_url=urls.get(receiver, ""),
            callback_events=["STARTED", "RETRYING"] if receiver else [],
            request_id=f"request-{name}",
            spec_digest=spec,
        )
        self._fact(task_id, "task_submitted")
        return task_id

    def refuse_submit(self, name: str, project: str = "alpha") -> None:
        """Submit what is refused."""
        call = self._call("submit", project, f"request-{name}", spec=digest_of_text([name]))
        self.records.append(CallRefused(at=self.tick(), call=call, code="INVALID_ARGUMENT"))

    def start(self, task_id: str, *, process: str = "worker-1") -> None:
        """Start the next attempt and its work."""
        attempt = self._tasks[task_id].attempt + 1
        self._fact(task_id, "attempt_started", attempt=attempt, worker=f"id-of-{process}")
        self.records.append(
            WorkStarted(
                at=self.tick(),
                task_id=task_id,
                attempt=attempt,
                worker=f"id-of-{process}",
                process=process,
                pid=attempt,
            )
        )

    def end_work(self, task_id: str, outcome: str = "returned") -> None:
        """End the work of the attempt in force."""
        begun = next(
            each
            for each in reversed(self.records)
            if isinstance(each, WorkStarted) and each.task_id == task_id
        )
        self.records.append(
            WorkEnded(
                at=self.tick(),
                task_id=task_id,
                attempt=begun.attempt,
                worker=begun.worker,
                process=begun.process,
                pid=begun.pid,
                outcome="raised" if outcome == "raised" else "returned",
            )
        )

    def succeed(self, task_id: str) -> None:
        """Return an output."""
        self.end_work(task_id)
        self._fact(task_id, "task_succeeded", attempt=self._tasks[task_id].attempt)

    def fail(self, task_id: str, reason: str = "INTERNAL") -> None:
        """Raise an error; a further attempt follows while the limit allows one."""
        self.end_work(task_id, "raised")
        self._fail(task_id, reason)

    def lose(self, task_id: str, process: str = "worker-1") -> None:
        """Kill the worker in the middle of the attempt."""
        fault = f"kill-{self.tick()}"
        begun = FaultBegun(at=self.tick(), fault=fault, fault_kind="kill", target=process)
        self.records += [begun, FaultEnded(at=self.tick(), fault=fault)]
        self._fail(task_id, "WORKER_LOST")

    def hand_back(self, task_id: str) -> None:
        """Give the attempt back unfinished."""
        self.end_work(task_id, "raised")
        self._fact(task_id, "attempt_returned", attempt=self._tasks[task_id].attempt)

    def cancel(self, task_id: str) -> None:
        """Cancel it, while it waits or while it runs."""
        is_running = fold(self._tasks[task_id].facts).state == "RUNNING"
        self._fact(task_id, "cancel_requested" if is_running else "task_cancelled")
        call = self._call("cancel", self._tasks[task_id].project, task_id=task_id)
        self.records.append(CallAnswered(at=self.tick(), call=call, task_id=task_id))
        if is_running:
            self.end_work(task_id, "raised")
            self._fact(task_id, "task_cancelled")

    def refuse_cancel(self, task_id: str) -> None:
        """Ask a task to stop that has ended."""
        project, then = self._tasks[task_id].project, str(self._tasks[task_id].sequence)
        call = self._call("cancel", project, task_id=task_id)
        code = "FAILED_PRECONDITION"
        self.records += [
            CallRefused(at=self.tick(), call=call, code=code),
            RefusedProbe(
                at=self.tick(),
                rpc="CancelTask",
                project=project,
                task_id=task_id,
                code=code,
                before=then,
                after=then,
            ),
        ]

    def retry(self, task_id: str, *, name: str) -> str:
        """Repeat a task that failed or was cancelled as a new one."""
        before = self._tasks[task_id]
        again = f"task-{name}"
        call = self._call("retry", before.project, f"request-{name}", task_id=task_id)
        self.records.append(CallAnswered(at=self.tick(), call=call, task_id=again))
        self._tasks[again] = replace(
            before, task_id=again, sequence=0, attempt=0, facts=[], retry_of=task_id
        )
        self._fact(again, "task_submitted")
        return again

    def register_media(self, task_id: str) -> None:
        """Note what the media library has."""
        self._fact(task_id, "media_registered")

    def watch(self, task_id: str, *, broken_after: Sequence[int] = ()) -> None:
        """Watch a task that has ended, with a new stream after each of the given facts."""
        watch, task = f"watch-{self.tick()}", self._tasks[task_id]
        for fact in task.facts:
            if fact.sequence == 1 or fact.sequence - 1 in broken_after:
                after = fact.sequence - 1
                opened = WatchOpened(
                    at=self.tick(), watch=watch, project=task.project, task_id=task_id, after=after
                )
                self.records.append(opened)
            self.records.append(
                WatchFact(
                    at=self.tick(),
                    watch=watch,
                    task_id=task_id,
                    sequence=fact.sequence,
                    fact=fact.fact,
                    digest=fact.digest,
                    epoch=EPOCH,
                )
            )
            if fact.fact in FINAL_FACTS:
                break
        self.records.append(WatchEnded(at=self.tick(), watch=watch, outcome="final"))

    def look_abroad(self, project: str, task_id: str) -> None:
        """Ask for another project's task, and list one's own."""
        probe = ForeignProbe(
            at=self.tick(), rpc="GetTask", project=project, task_id=task_id, code="NOT_FOUND"
        )
        mine = [task for task in self._tasks.values() if task.project == project]
        listed = (
            ListedTask(at=self.tick(), project=project, task_id=task.task_id) for task in mine
        )
        self.records += [probe, *listed]

    def heal(self) -> None:
        """End all faults; work flows again."""
        self.records.append(Healed(at=self.tick(), faults=1))
        task_id = self.submit("flow")
        self.start(task_id)
        self.succeed(task_id)
        self.records.append(Flow(at=self.tick(), task_id=task_id))

    def end(self) -> tuple[list[Record], FinalState]:
        """Return all records, webhooks among them, and what was left."""
        tasks = [_recorded(task) for task in self._tasks.values()]
        deliveries: list[StoredDelivery] = []
        for task in tasks:
            deliveries += self._deliver(task)
        brain = [
            BrainFact(
                project=task.project,
                epoch=EPOCH,
                task_id=task.task_id,
                sequence=fact.sequence,
                event=BRAIN_WORDS[fact.fact],
                count=1,
                time=fact.time,
            )
            for task in tasks
            for fact in task.facts
        ]
        final = FinalState(
            epoch=EPOCH, tasks=tasks, deliveries=deliveries, brain=brain, receivers=RECEIVERS
        )
        return self.records, final

    def _call(
        self,
        rpc: CallName,
        project: str,
        request_id: str = "",
        *,
        task_id: str = "",
        spec: str = "",
        receiver: str = "",
    ) -> str:
        self._calls += 1
        call = CallBegun(
            at=self.tick(),
            call=f"call-{self._calls}",
            rpc=rpc,
            project=project,
            request_id=request_id,
            spec_digest=spec,
            task_id=task_id,
            receiver=receiver,
            intent="any",
        )
        self.records.append(call)
        return call.call

    def _fail(self, task_id: str, reason: str) -> None:
        task = self._tasks[task_id]
        is_last = fold(task.facts).failures + 1 >= task.max_attempts
        name = "task_failed" if is_last else "attempt_failed"
        self._fact(task_id, name, attempt=task.attempt, reason=reason)

    def _fact(
        self, task_id: str, name: str, *, attempt: int = 0, worker: str = "", reason: str = ""
    ) -> None:
        self._writes += 1
        task = self._tasks[task_id]
        sequence = task.sequence + 1
        fact = StoredFact(
            sequence=sequence,
            fact=name,
            digest=digest_of_text([task_id, name, str(sequence)]),
            time=int(self.tick() * 1_000_000),
            attempt=attempt,
            worker=worker,
            reason=reason,
            operation=self._writes,
        )
        now = attempt if name == "attempt_started" else task.attempt
        facts = [*task.facts, fact]
        self._tasks[task_id] = replace(task, facts=facts, sequence=sequence, attempt=now)

    def _deliver(self, task: StoredTask) -> Iterable[StoredDelivery]:
        for receiver in RECEIVERS:
            if not task.callback_url.startswith(receiver.url):
                continue
            for fact in task.facts:
                status, event = WEBHOOK_WORDS.get(fact.fact, ("", ""))
                if fact.fact in FINAL_FACTS or event in WISHES:
                    self._post(task, fact, receiver, (status, event))
                    yield StoredDelivery(
                        task_id=task.task_id,
                        sequence=fact.sequence,
                        webhook_id=f"{EPOCH}_{task.task_id}_{fact.sequence}",
                        state="DELIVERED" if receiver.honest else "WAITING",
                        url=task.callback_url,
                    )

    def _post(
        self, task: StoredTask, fact: StoredFact, receiver: Receiver, words: tuple[str, str]
    ) -> None:
        """Deliver it twice: the first answer is lost."""
        for answered in (0, 204 if receiver.honest else 500):
            self.records.append(
                WebhookReceived(
                    at=self.tick(),
                    receiver=receiver.name,
                    webhook_id=f"{EPOCH}_{task.task_id}_{fact.sequence}",
                    task_id=task.task_id,
                    project=task.project,
                    status=words[0],
                    event=words[1],
                    sequence=fact.sequence,
                    attempt=fact.attempt,
                    signature_valid=True,
                    body_digest=fact.digest,
                    answered=answered,
                )
            )


def _recorded(task: StoredTask) -> StoredTask:
    folded = fold(task.facts)
    return replace(
        task,
        record_sequence=folded.sequence,
        record_state=folded.state,
        record_attempt=folded.attempt,
        record_failures=folded.failures,
        record_cancel_requested=folded.cancel_requested,
        shown_state=folded.state,
        shown_sequence=folded.sequence,
        shown_attempt=folded.attempt,
    )
