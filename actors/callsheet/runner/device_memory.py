"""How much memory models may take where they run, and how much a rendering took."""

from typing import Protocol

from callsheet.runtime.memory_needs import RESERVE_BYTES


class Gauge(Protocol):
    """Whoever knows the memory of a device."""

    def memory_bytes(self) -> int | None:
        """Return how much it has of its own; None for the CPU."""
        ...

    def free_bytes(self) -> int:
        """Return how much of it this process may have, or holds already."""
        ...

    def reset_peak(self) -> None:
        """Start a new measurement of the memory held."""
        ...

    def peak_bytes(self) -> int:
        """Return the most held since reset_peak; 0 where nothing is measured."""
        ...


class DeviceMemory:
    """The memory of one device, or of the host for the CPU."""

    def __init__(self, gauge: Gauge, *, host_bytes: int) -> None:
        """*host_bytes* is what the process may take of the host's memory."""
        self._gauge = gauge
        self._host_bytes = host_bytes
        self._most = 0

    @property
    def is_own(self) -> bool:
        """Whether the device has memory of its own."""
        return self._gauge.memory_bytes() is not None

    @property
    def reserve_bytes(self) -> int:
        """How much of the memory is not for models."""
        return RESERVE_BYTES if self.is_own else 0

    def capacity_bytes(self) -> int:
        """Return what models may ever take there, when nobody else takes any."""
        total = self._gauge.memory_bytes()
        return self._host_bytes if total is None else max(0, total - self.reserve_bytes)

    def usable_bytes(self) -> int:
        """Return what models may take there now, with what they take already."""
        if not self.is_own:
            return self._host_bytes
        return max(0, min(self.capacity_bytes(), self._gauge.free_bytes() - self.reserve_bytes))

    def reset_peak(self) -> None:
        """Start a new measurement of the memory held."""
        self._most = 0
        self._gauge.reset_peak()

    def peak_bytes(self) -> int:
        """Return the most held since reset_peak; 0 where nothing is measured."""
        return max(self._most, self._gauge.peak_bytes())

    def begin_part(self) -> None:
        """Start to measure a part of what is measured."""
        self._most = self.peak_bytes()
        self._gauge.reset_peak()

    def part_peak_bytes(self) -> int:
        """Return the most held since begin_part; 0 where nothing is measured."""
        return self._gauge.peak_bytes()
