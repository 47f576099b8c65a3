"""Brings weights to a device, and puts them aside on the host."""

from collections.abc import Iterable, Iterator

from callsheet.runner.untyped import Untyped


def to_host(modules: Iterable[Untyped], *, torch: Untyped) -> None:
    """Bring the weights of modules to the host, where the device can fetch them fast.

    What is there already is left. Pages are pinned where there is a device that gains by it.
    """
    for tensor in _tensors(modules):
        if tensor.device.type != "cpu":
            host = torch.empty_like(tensor.data, device="cpu", pin_memory=True)
            host.copy_(tensor.data)
            tensor.data = host


def to_device(modules: Iterable[Untyped], *, torch: Untyped, device: str) -> None:
    """Bring the weights of modules to a device; raises when there is no room for all of them."""
    for tensor in _tensors(modules):
        tensor.data = tensor.data.to(device, non_blocking=True)
    if device != "cpu":
        # Pinned pages may be given back at once: not before the device has read them.
        torch.cuda.synchronize(device)


def bytes_of(modules: Iterable[Untyped]) -> int:
    """Return how much memory the weights of modules take."""
    return sum(int(tensor.nbytes) for module in modules for tensor in module.parameters())


def _tensors(modules: Iterable[Untyped]) -> Iterator[Untyped]:
    for module in modules:
        yield from module.parameters()
        yield from module.buffers()
