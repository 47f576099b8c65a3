"""What an attempt uses: seconds of the device, of loading and of running, and peaks of memory."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from callsheet.v1.task_pb2 import (
    PROGRESS_PHASE_ENCODING,
    PROGRESS_PHASE_LOADING,
    PROGRESS_PHASE_STEPS,
    PROGRESS_PHASE_UNSPECIFIED,
    ProgressPhase,
    Usage,
)

_STATUS: Final = Path("/proc/self/status")
_CLEAR_REFS: Final = Path("/proc/self/clear_refs")
_RESET_PEAK_RSS: Final = "5"  # proc(5): resets VmHWM to the memory held now


class DeviceMemory(Protocol):
    """Whoever knows how much device memory was held."""

    def reset_peak(self) -> None:
        """Start a new measurement."""
        ...

    def peak_bytes(self) -> int:
        """Return the most that was held since reset_peak; 0 when there is no device memory."""
        ...


class UsageMeter:
    """Measures one attempt, from when it is made.

    gpu_seconds are the seconds in which the attempt held the runner's device slot, loading
    included, on whatever device: on the CPU too they are what the slot could not do for others.
    A task type that takes no device slot has none.
    """

    def __init__(self, memory: DeviceMemory, *, holds_device: bool, sharers: int = 1) -> None:
        """*sharers* is how many attempts run together: the slot's seconds are each one's part."""
        self._memory = memory
        self._sharers = sharers
        self._holds_device = holds_device
        self._start = self._entered = time.monotonic()
        self._phase: ProgressPhase.ValueType = PROGRESS_PHASE_UNSPECIFIED
        self._seconds: dict[ProgressPhase.ValueType, float] = {}
        memory.reset_peak()
        _reset_peak_rss()

    @property
    def phase(self) -> ProgressPhase.ValueType:
        """What the seconds that pass now are counted as."""
        return self._phase

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Count the seconds from now on as that phase's."""
        now = time.monotonic()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._entered
        self._phase, self._entered = phase, now

    @contextmanager
    def loading(self) -> Generator[None]:
        """Count the seconds spent inside as loading: the import of torch is a part of it."""
        before = self._phase
        self.enter(PROGRESS_PHASE_LOADING)
        try:
            yield
        finally:
            self.enter(before)

    def usage(self) -> Usage:
        """Return what was used until now."""
        self.enter(self._phase)
        held = self._entered - self._start
        load = self._seconds.get(PROGRESS_PHASE_LOADING, 0.0)
        return Usage(
            gpu_seconds=held / self._sharers if self._holds_device else 0.0,
            model_load_seconds=load,
            run_seconds=max(0.0, held - load),
            step_seconds=self._seconds.get(PROGRESS_PHASE_STEPS),
            encode_seconds=self._seconds.get(PROGRESS_PHASE_ENCODING),
            peak_vram_bytes=self._memory.peak_bytes(),
            peak_rss_bytes=_peak_rss_bytes(),
        )


def _reset_peak_rss() -> None:
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK_RSS)
    except OSError:
        return  # not Linux, or a sandbox: then the peak is that of the process's life


def _peak_rss_bytes() -> int:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
