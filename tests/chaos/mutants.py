"""Mutants of the product: single defects, each of which some test or the checker must catch.

A mutant is an exact replacement in one file. Its catchers are tried in turn until one fails: a
pytest node, or `run: KINDS` for a short chaos run with these faults and the checker's judgement.
"""

from typing import Final, NamedTuple

LEDGER: Final = "services/callsheet/ledger"
SIDECAR: Final = "services/callsheet/sidecar"
UPKEEP: Final = "services/callsheet/upkeep"
CONTROL: Final = "services/callsheet/control"

REDIS_STORE: Final = "tests/ledger/test_redis_store.py"
BAD_INPUT: Final = "tests/control/test_bad_input.py"
MACHINE: Final = "tests/ledger/test_machine.py"
QUEUES: Final = "tests/sidecar/test_delivery_queues.py"
WATCH: Final = "tests/control/test_watch.py"
OUTAGES: Final = "tests/control/test_outages.py"

#: A chaos run with few faults and many tasks: what is wrong with the product shows by itself.
CALM_RUN: Final = "run: kill_control"
#: One in which answers are lost, so that everything that can be repeated is.
LOSSY_RUN: Final = "run: cut_after_valkey cut_after_control"
#: One in which a server dies while the ledger hangs, and with it whatever it has not written.
HUNG_RUN: Final = "run: stop_valkey kill_control"


class Mutant(NamedTuple):
    """One defect: *find*, which stands in *file* once, becomes *becomes*."""

    file: str
    find: str
    becomes: str
    catchers: tuple[str, ...]


#: Defects of the scripts: what is compared and written atomically.
SCRIPTS: Final = {
    "the log misses facts": Mutant(
        f"{LEDGER}/redis_scripts.py",
        "    if event ~= '' then redis.call('XADD', log, '*', 't', id, 'e', event) end\n",
        "",
        ("tests/ledger/test_store.py::test_the_log_tells_every_fact_once_in_order",),
    ),
    "a commit does not compare the sequence": Mutant(
        f"{LEDGER}/redis_scripts.py",
        "local ok = q == expected",
        "local ok = true",
        (
            "tests/ledger/test_store.py::test_the_second_of_two_writers_is_refused_and_told_the_task",
        ),
    ),
    "a commit does not look at its guard": Mutant(
        f"{LEDGER}/redis_scripts.py",
        "ok = s and tonumber(s) <= tonumber(ARGV[i+8])",
        "ok = true",
        ("tests/ledger/test_store.py::test_a_guard_that_no_longer_holds_refuses",),
    ),
    "a claim does not check again who is ready": Mutant(
        f"{LEDGER}/redis_scripts.py",
        "  if waits[id] and not paused[tonumber(k)] then h = ",
        "  if not paused[tonumber(k)] then h = ",
        ("tests/ledger/test_store.py::test_a_candidate_that_somebody_took_is_left_out",),
    ),
    "a claim that is repeated late starts its task again": Mutant(
        f"{LEDGER}/redis_scripts.py",
        "and not (before and string.find(before, ARGV[6], 1, true))",
        "",
        ("tests/ledger/test_store.py::test_a_claim_repeated_late_starts_no_task_again",),
    ),
    "a paused queue is claimed from": Mutant(
        f"{LEDGER}/redis_scripts.py",
        " and not paused[tonumber(k)]",
        "",
        ("tests/ledger/test_pausing.py::test_nothing_of_a_paused_queue_is_claimed",),
    ),
    "a claim gives every attempt the number one": Mutant(
        f"{LEDGER}/redis_scripts.py",
        "tonumber(h[1]) + 1, tonumber(h[2] or '0') + 1",
        "tonumber(h[1]) + 1, 1",
        ("tests/ledger/test_store.py::test_later_attempts_are_stamped_as_start_decides",),
    ),
    "a claim takes no lease": Mutant(
        f"{LEDGER}/redis_scripts.py",
        "if #leases > 0 then redis.call('ZADD', KEYS[2], unpack(leases)) end\n",
        "",
        ("tests/ledger/test_store.py::test_a_lost_lease_is_not_renewed", CALM_RUN),
    ),
    "a repeated claim starts another task": Mutant(
        f"{LEDGER}/redis_scripts.py",
        "if #started > 0 then left = 0 end",
        "",
        ("tests/ledger/test_store.py::test_a_repeated_claim_starts_nothing_else_instead",),
    ),
    "a renewal extends nothing": Mutant(
        f"{LEDGER}/redis_scripts.py",
        "    redis.call('ZADD', KEYS[1], lease, ARGV[i])\n",
        "",
        ("tests/ledger/test_store.py::test_an_expired_lease_that_nobody_took_is_renewed",),
    ),
    "a renewal brings a lost lease back": Mutant(
        f"{LEDGER}/redis_scripts.py",
        "if redis.call('ZSCORE', KEYS[1], ARGV[i]) then",
        "if true then",
        ("tests/ledger/test_store.py::test_a_lost_lease_is_not_renewed",),
    ),
    "without memory no work can end": Mutant(
        f"{LEDGER}/redis_scripts.py",
        'COMMIT: Final = "#!lua flags=allow-oom\\n" + _COMMIT',
        "COMMIT: Final = _COMMIT",
        (f"{REDIS_STORE}::test_when_memory_has_run_out_work_ends_and_none_is_accepted",),
    ),
    "a tailer of another epoch records on": Mutant(
        f"{LEDGER}/delivery_scripts.py",
        "if redis.call('GET', KEYS[3]) ~= ARGV[5] then return -1 end\n",
        "",
        (f"{QUEUES}::test_a_step_of_another_epoch_is_refused",),
    ),
    "a tailer that lost its role records on": Mutant(
        f"{LEDGER}/delivery_scripts.py",
        "if redis.call('HGET', KEYS[1], 'holder') ~= ARGV[1] then return -1 end\n",
        "",
        (f"{QUEUES}::test_a_role_that_was_taken_counts_before_its_taker_moves_the_cursor",),
    ),
}

#: Defects of the ledger in Python: its rules, its writes, and who may see what.
RULES: Final = {
    "a repeated write is not recognised": Mutant(
        f"{LEDGER}/redis_store.py",
        "if event.operation == commit.operation:",
        "if event.operation != event.operation:",
        ("tests/ledger/test_store.py::test_a_repeated_commit_is_applied_once",),
    ),
    "an attempt that lost its lease may write": Mutant(
        f"{LEDGER}/machine.py",
        "if task.state is not TaskState.RUNNING or task.attempt != attempt:",
        "if task.state is not TaskState.RUNNING:",
        ("tests/ledger/test_machine.py::test_a_worker_that_lost_its_lease_cannot_finish_the_task",),
    ),
    "an ended task may be cancelled": Mutant(
        f"{LEDGER}/machine.py",
        'raise IllegalTransition(task.id, task.state, "cancel")',
        "return TaskCancelled(reason)",
        (CALM_RUN, f"{MACHINE}::test_a_final_task_refuses_every_command"),
    ),
    "a task that was asked to stop succeeds": Mutant(
        f"{LEDGER}/machine.py",
        "        return TaskCancelled(task.cancel_reason)\n    return TaskSucceeded(",
        "        pass\n    return TaskSucceeded(",
        (f"{MACHINE}::test_whatever_a_worker_says_after_a_cancel_request_the_task_is_cancelled",),
    ),
    "the limit of attempts is ignored": Mutant(
        f"{LEDGER}/machine.py",
        "most = min(task.submission.max_attempts, strategy.attempts)",
        "most = 5",
        (CALM_RUN, f"{MACHINE}::test_the_attempt_limit_counts_failures_and_not_hand_backs"),
    ),
    "a hand-back counts as a failure": Mutant(
        f"{LEDGER}/machine.py",
        "case AttemptReturned():\n            return after(state=TaskState.PENDING)",
        "case AttemptReturned():\n"
        "            return after(state=TaskState.PENDING, failures=task.failures + 1)",
        (f"{MACHINE}::test_the_attempt_limit_counts_failures_and_not_hand_backs",),
    ),
    "a submission is acknowledged before its commit": Mutant(
        f"{LEDGER}/redis_store.py",
        "            return [_settled(await self._lane.put(commits[0]))]\n",
        """            if commits[0].expected == 0 and commits[0].admits:
                import asyncio
                import time

                early = asyncio.get_running_loop().create_task(self._lane.put(commits[0]))
                self.__dict__.setdefault("_early", []).append(early)
                return [Applied(1, time.time_ns() // 1000)]
            return [_settled(await self._lane.put(commits[0]))]
""",
        (HUNG_RUN, OUTAGES),
    ),
    "a request id makes a new task each time": Mutant(
        f"{LEDGER}/ledger.py",
        "task_id = requested_task_id(submission.project, request_id)",
        "task_id = self._writer.ids.task_id()",
        (LOSSY_RUN, "tests/ledger/test_ledger.py"),
    ),
    "a request id may be used for another spec": Mutant(
        f"{LEDGER}/acceptance.py",
        "if asked(task.submission) != asked(prepared.task.submission):",
        "if task.submission is None:",
        ("tests/ledger/test_ledger.py::test_a_request_id_with_another_submission_is_refused",),
    ),
    "an ended task keeps its lease": Mutant(
        f"{LEDGER}/index.py",
        "        return (Move(Op.REMOVE, keys.leases, member), *listed)\n",
        "        return listed\n",
        ("tests/ledger/test_ledger.py::test_a_task_that_ended_holds_no_lease",),
    ),
    "a cancelled task stays in its ready set": Mutant(
        f"{LEDGER}/index.py",
        "        Move(Op.REMOVE, keys.ready(queue)),\n        Move(Op.REMOVE, keys.delayed),\n",
        "        Move(Op.REMOVE, keys.delayed),\n",
        ("tests/ledger/test_store.py::test_a_pruned_task_is_gone_from_everywhere", CALM_RUN),
    ),
    "the worker is not told to stop": Mutant(
        f"{LEDGER}/index.py",
        "            return (Move(Op.TELL, keys.control(after.worker), member),)\n",
        "            return (Move(Op.TELL, keys.control(member), member),)\n",
        ("tests/ledger/test_store.py::test_a_word_to_a_worker_waits_on_its_control_list",),
    ),
    "a delayed task is ready at once": Mutant(
        f"{LEDGER}/index.py",
        "    if terms.delay > NO_TIME:\n",
        "    if terms.delay < NO_TIME:\n",
        ("tests/ledger/test_store.py::test_a_delayed_task_is_not_ready_before_its_time",),
    ),
    "whoever knows its id sees another project's task": Mutant(
        f"{LEDGER}/ledger.py",
        "if project_of(stored) not in principal.projects:",
        "if not project_of(stored):",
        (CALM_RUN, "tests/ledger/test_ledger.py::test_another_projects_task_does_not_exist"),
    ),
    "a list may be of any project": Mutant(
        f"{LEDGER}/access.py",
        "        if named not in self.projects:\n",
        "        if not named:\n",
        ("tests/control/test_tenancy.py::test_another_project_cannot_be_named",),
    ),
    "a list of what runs shows all projects": Mutant(
        f"{LEDGER}/listing.py",
        "task.submission.project == self.project\n            and self.state",
        "task.submission.project\n            and self.state",
        ("tests/ledger/test_ledger.py::test_what_runs_in_another_project_is_in_no_list",),
    ),
    "a ticket outlives its time": Mutant(
        f"{LEDGER}/tickets.py",
        "if self.ticket.expire_time <= now:",
        "if self.ticket.expire_time == now + timedelta(1):",
        ("tests/ledger/test_tickets.py::test_a_ticket_ends_with_its_time",),
    ),
    "a watch of many tells of every project": Mutant(
        f"{CONTROL}/feed.py",
        "        seen.task.project == wanted.project\n        and wanted.takes(",
        "        wanted.takes(",
        ("tests/control/test_watch_many.py::test_only_tasks_of_the_project_are_told_of",),
    ),
    "any secret fits a key's id": Mutant(
        f"{LEDGER}/keys.py",
        "if not compare_digest(record.digest, _digest(text)):",
        "if not record.digest:",
        ("tests/ledger/test_keys.py::test_what_is_not_the_keys_text_is_not_recognised",),
    ),
}

#: Defects of what stands around the ledger: servers, upkeep, sidecar, worker and brain.
ROLES: Final = {
    "a refused submission is written first": Mutant(
        f"{CONTROL}/task_service.py",
        """        command = await self._submissions.command(
            request, call.principal, trace_parent=call.trace_parent
        )
        task, outcome = await self._ledger.accept(call.principal, command)
""",
        """        from callsheet.control.convert import to_command

        command = to_command(request, trace_parent=call.trace_parent)
        task, outcome = await self._ledger.accept(call.principal, command)
        self._validation.check_submission(request, call.principal)
""",
        (
            f"{BAD_INPUT}::test_a_bad_submission_is_refused_by_field_and_nothing_is_written",
            CALM_RUN,
        ),
    ),
    "a watch that goes on skips a fact": Mutant(
        f"{CONTROL}/watching.py",
        "        self._seen = after\n",
        "        self._seen = after + (after > 0)\n",
        (f"{WATCH}::test_a_watch_resumes_from_any_sequence",),
    ),
    "a watch does not mind a gap": Mutant(
        f"{CONTROL}/watching.py",
        "if fact.sequence == self._seen + 1:",
        "if fact.sequence > self._seen:",
        (f"{WATCH}::test_a_fact_that_the_tail_leaves_out_is_read_from_the_store",),
    ),
    "a watch does not look at the epoch": Mutant(
        f"{CONTROL}/watching.py",
        "            if remembered != current:\n",
        "            if not current:\n",
        (f"{WATCH}::test_a_reader_of_another_epoch_is_told",),
    ),
    "a server that was cut off misses facts": Mutant(
        f"{CONTROL}/hub.py",
        "        for inbox in self._all():\n            inbox.fall_behind()\n        self.feed",
        "        self.feed",
        (f"{OUTAGES}::test_a_watch_stays_through_a_restart_of_redis_and_misses_nothing",),
    ),
    "the rescuer does not hold off": Mutant(
        f"{UPKEEP}/hold_off.py",
        "        return now >= self._until\n",
        "        return True\n",
        ("tests/upkeep/test_hold_off.py",),
    ),
    "the rescuer does not guard the lease it saw": Mutant(
        f"{UPKEEP}/rescuer.py",
        "operation=operation, guard=found.guard)",
        "operation=operation)",
        ("tests/upkeep/test_rescuer.py::test_a_lease_renewed_while_it_was_looked_at_stands",),
    ),
    "the log is trimmed past its slowest reader": Mutant(
        f"{UPKEEP}/log_trimmer.py",
        "reader, slowest = min(",
        "reader, slowest = max(",
        ("tests/upkeep/test_pruner.py::test_the_log_is_trimmed_behind_its_slowest_reader",),
    ),
    "a lost tail goes unnoticed": Mutant(
        f"{UPKEEP}/epoch_watch.py",
        "        if Position.parse(await self._log.end()) < mark.end:\n            return True\n",
        "        if Position.parse(await self._log.end()) < mark.end:\n            return False\n",
        ("tests/upkeep/test_epoch_watch.py::test_a_ledger_that_lost_its_tail_gets_a_new_epoch",),
    ),
    "facts of one task share a webhook-id": Mutant(
        f"{LEDGER}/delivery_model.py",
        'return f"{self.epoch}_{self.task_id}_{self.key}"',
        'return f"{self.epoch}_{self.task_id}_1"',
        (CALM_RUN, "tests/sidecar/test_events.py"),
    ),
    "each try has a webhook-id of its own": Mutant(
        f"{LEDGER}/delivery_model.py",
        'return f"{self.epoch}_{self.task_id}_{self.key}"',
        'return f"{self.epoch}_{self.task_id}_{self.key}.{self.tries}"',
        (CALM_RUN, "tests/sidecar/test_courier.py"),
    ),
    "a webhook that nobody took counts as delivered": Mutant(
        f"{SIDECAR}/courier.py",
        "    if outcome.error:\n        if not outcome.hopeless:",
        "    if outcome.error and outcome.status:\n        if not outcome.hopeless:",
        ("tests/sidecar/test_courier.py", "run: kill_receiver"),
    ),
    "a webhook is signed without its id": Mutant(
        f"{SIDECAR}/signing.py",
        'b".".join((webhook_id.encode(), timestamp.encode(), body))',
        'b".".join((timestamp.encode(), body))',
        ("tests/sidecar/test_signing.py", CALM_RUN),
    ),
    "the brain takes one fact of each task": Mutant(
        "services/callsheet/embedded/brain/remembering.py",
        "/{event.epoch}/{event.sequence}",
        "/{event.epoch}/1",
        (CALM_RUN, "tests/embedded/brain/test_graph.py"),
    ),
    "the brain writes what it has again": Mutant(
        "services/callsheet/embedded/brain/remembering.py",
        "        del by_key[known]\n",
        "        by_key.setdefault(known)\n",
        ("tests/embedded/brain/test_graph.py::test_every_event_is_written_once",),
    ),
    "a worker does not notice a lost lease": Mutant(
        "actors/callsheet/worker/lease_keeper.py",
        "            if sequence == 0:\n                self._lost(running)\n            elif",
        "            if",
        ("tests/worker/test_lease_keeper.py",),
    ),
    "a worker renews nothing": Mutant(
        "actors/callsheet/worker/lease_keeper.py",
        "        sequences = await self._attempts.renew(leases)\n",
        "        sequences = [running.task.sequence for running in all_running]\n",
        ("tests/worker/test_lease_keeper.py",),
    ),
}

MUTANTS: Final = {**SCRIPTS, **RULES, **ROLES}
