"""The runner's composition root: one thread receives, the main thread runs attempts."""

import argparse
import os
import socket
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final, NoReturn, cast

import psutil
import structlog

from callsheet.artifacts.store import ArtifactStore
from callsheet.internal.v1.pipe_pb2 import FromRunner, RunnerReady
from callsheet.media.limits import MediaLimits
from callsheet.runner.attempt import AttemptContext, Ending, PipelineSource, end_of
from callsheet.runner.batches import SharedPipelines, grouped, render_together
from callsheet.runner.context import Resolve
from callsheet.runner.failures import breaks_device, is_out_of_memory
from callsheet.runner.frames import FrameSocket, PipeBroken
from callsheet.runner.handlers import handler_for, holds_device
from callsheet.runner.inbox import Inbox, TakenAttempt
from callsheet.runner.lifeline import die_with_parent, outlive_polite_signals, parent_watch
from callsheet.runner.pipelines import Pipelines
from callsheet.runner.tuning import Tuning, TuningRefused
from callsheet.runner.turns import Turns
from callsheet.runner.uploads import OwnUploads, Uploads
from callsheet.runner.usage import UsageMeter
from callsheet.runtime.artifacts import artifact_store
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.logs import attempt_logged, configure_logging
from callsheet.runtime.models import Catalogue
from callsheet.runtime.settings import EXIT_SETTINGS_REFUSED, Settings, load_settings_or_exit
from callsheet.runtime.toml_table import CatalogueInvalid
from callsheet.runtime.trace import parse_traceparent

EXIT_WORKER_GONE: Final = 0
EXIT_DEVICE_BROKEN: Final = 70  # EX_SOFTWARE of sysexits.h

_SHARE_OF_MEMORY: Final = 0.5  # of what there is, for weights kept warm

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


def serve(arguments: Sequence[str], *, resolve: Resolve = handler_for) -> NoReturn:
    """Run attempts for the worker at the other end of the given socket, until it is gone.

    The worker is told at once that the runner is ready; torch is imported meanwhile, and the first
    attempt that needs a pipeline waits for that and counts the wait as loading. Where models are
    compiled it is told when that is done. With --import-on-demand that attempt has torch imported.
    """
    parent_is_there = parent_watch()
    outlive_polite_signals()
    die_with_parent()
    given = _parsed(arguments)
    settings = load_settings_or_exit()
    configure_logging(settings, process="runner")
    pipelines = _pipelines(settings, device=given.device)
    pipe = FrameSocket(socket.socket(fileno=given.fd), still_there=parent_is_there)
    inbox = Inbox(pipe, on_gone=_leave)
    runner = Runner(
        given.device,
        pipe=pipe,
        inbox=inbox,
        pipelines=pipelines,
        artifacts=artifact_store(settings),
        checkpoint_period=settings.checkpoint_period,
        scratch=settings.cache_dir / "scratch",
        limits=MediaLimits.of(settings),
        resolve=resolve,
    )
    inbox.start()
    try:
        if not given.import_on_demand:
            pipelines.warm_up(limit=settings.warm_up_limit)
        pipe.send(FromRunner(ready=RunnerReady(device=given.device)))
        while True:
            runner.run(inbox.next())
    except PipeBroken as error:
        _leave(str(error))
    except TuningRefused as error:
        sys.stderr.write(f"{error}\n")
        _exit(EXIT_SETTINGS_REFUSED)


class Runner:
    """Runs one attempt after the other on its device, in the thread that calls it."""

    def __init__(
        self,
        device: str,
        *,
        pipe: FrameSocket,
        inbox: Inbox,
        pipelines: Pipelines,
        artifacts: ArtifactStore,
        checkpoint_period: timedelta,
        scratch: Path,
        limits: MediaLimits,
        resolve: Resolve,
    ) -> None:
        self._device = device
        self._pipe = pipe
        self._inbox = inbox
        self._pipelines = pipelines
        self._artifacts = artifacts
        self._checkpoint_period = checkpoint_period
        self._scratch, self._limits = scratch, limits
        self._uploads = Uploads()
        self._resolve = resolve

    def run(self, taken: Sequence[TakenAttempt]) -> None:
        """Run attempts and tell the worker how each ended; raises PipeBroken when it is gone."""
        if len(taken) > 1:
            self._run_together(taken)
            return
        ending = self._end(taken[0], pipelines=self._pipelines, uploads=self._uploads)
        self._inbox.finish()
        self._pipe.send(FromRunner(ended=ending.frame))
        if ending.error is not None:
            self._recover(ending.error)

    def _run_together(self, taken: Sequence[TakenAttempt]) -> None:
        """Run each attempt in a thread of its own, and what needs a model in this one."""
        turns = Turns(len(taken))
        endings: list[Ending] = []
        broken: list[BaseException] = []
        ended = threading.Lock()

        def perform(each: TakenAttempt) -> None:
            pipelines = SharedPipelines(self._pipelines, turns, check=each.check)
            uploads = OwnUploads(self._uploads, each.run.task_id)
            try:
                ending = self._end(each, pipelines=pipelines, uploads=uploads, sharers=len(taken))
                with ended:
                    endings.append(ending)
                    if len(endings) == len(taken):
                        self._inbox.finish()
                self._pipe.send(FromRunner(ended=ending.frame))
            except BaseException as error:  # noqa: BLE001 - raised below, in the thread that waits
                broken.append(error)
            finally:
                turns.leave()

        threads = [
            threading.Thread(target=perform, args=(each,), name=each.run.task_id, daemon=True)
            for each in taken
        ]
        for thread in threads:
            thread.start()
        turns.serve(group=grouped, render=render_together)
        for thread in threads:
            thread.join()
        if broken:
            raise broken[0]
        for error in (ending.error for ending in endings):
            if error is not None:
                self._recover(error)

    def _end(
        self,
        taken: TakenAttempt,
        *,
        pipelines: PipelineSource,
        uploads: Uploads | OwnUploads,
        sharers: int = 1,
    ) -> Ending:
        trace = parse_traceparent(taken.run.trace_parent)
        with attempt_logged(
            task_id=taken.run.task_id,
            attempt=taken.run.attempt,
            trace_id=trace.trace_id if trace is not None else "",
        ):
            return self._ended(taken, pipelines=pipelines, uploads=uploads, sharers=sharers)

    def _ended(
        self,
        taken: TakenAttempt,
        *,
        pipelines: PipelineSource,
        uploads: Uploads | OwnUploads,
        sharers: int,
    ) -> Ending:
        meter = UsageMeter(
            self._pipelines, holds_device=holds_device(taken.run.task_type), sharers=sharers
        )
        context = AttemptContext(
            taken.run,
            device=self._device,
            stop=taken.stop,
            send=self._pipe.send,
            pipelines=pipelines,
            artifacts=self._artifacts,
            uploads=uploads,
            checkpoint_period=self._checkpoint_period,
            meter=meter,
            scratch=self._scratch,
            limits=self._limits,
        )
        ending = end_of(taken.run, context, resolve=self._resolve)
        context.close(succeeded=ending.frame.HasField("output"))
        ending.frame.usage.CopyFrom(meter.usage())
        self._report_device(ending)
        return ending

    def _report_device(self, ending: Ending) -> None:
        """Add how the device is to the attempt's end; a device that cannot say it says nothing."""
        try:
            report = self._pipelines.report()
        except Exception as error:  # noqa: BLE001  # a driver's trouble must not spoil the outcome
            _log.warning("device_not_reported", error=repr(error))
            return
        if report is not None:
            ending.frame.device.CopyFrom(report)

    def _recover(self, error: Exception) -> None:
        if breaks_device(error):
            # The worker has its answer; it starts another runner for the next attempt.
            _log.error("device_broken", device=self._device)
            self._pipe.close()  # heard at once, while the end of the process may take its time
            _exit(EXIT_DEVICE_BROKEN)
        if is_out_of_memory(error):
            error.__traceback__ = None  # its frames hold what filled the memory
            self._pipelines.clear()


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m callsheet.runner", description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the socket to the worker")
    parser.add_argument("--device", required=True, help="cpu, cuda or cuda:N")
    parser.add_argument(
        "--import-on-demand", action="store_true", help="import torch for the first pipeline"
    )
    return parser.parse_args(arguments)


def _pipelines(settings: Settings, *, device: str) -> Pipelines:
    limit = settings.runner_memory_limit_bytes or psutil.virtual_memory().total
    warm = settings.warm_host_bytes
    return Pipelines(
        _catalogue_or_exit(settings.models_file),
        device=device,
        cache_dir=settings.cache_dir,
        most_host_bytes=int(limit * _SHARE_OF_MEMORY) if warm is None else warm,
        most_device_bytes=settings.warm_device_bytes,
        host_bytes=limit,
        tuning=Tuning.of(settings, device=device, cache_dir=settings.cache_dir),
    )


def _catalogue_or_exit(path: Path | None) -> Catalogue:
    try:
        return load_catalogue(path)
    except CatalogueInvalid as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_SETTINGS_REFUSED)


def _leave(reason: str) -> NoReturn:
    _log.info("worker_gone", reason=reason)
    _exit(EXIT_WORKER_GONE)


def _exit(code: int) -> NoReturn:
    # Not sys.exit: it would wait for inference, and this may be another thread than that.
    os._exit(code)
