"""The state of a rendering, as bytes."""

import json
import math

import pytest

from callsheet.runner.render_state import (
    RenderState,
    StateUnreadable,
    WalkState,
    decode_state,
    encode_state,
)
from callsheet.runner.untyped import imported

torch = imported("torch")


def state() -> RenderState:
    latents = torch.arange(6, dtype=torch.bfloat16).view(1, 2, 3).transpose(1, 2)
    walk = WalkState(
        calls=3,
        of=8,
        tensors={"latents": latents, "scheduler.model_outputs.1": torch.zeros(2)},
        plain={"order": 2, "sigma": 0.1 + 0.2, "end": math.inf, "list": [None, 1.5], "name": "x"},
        outputs={"unet": ((2, 4, 8, 8), "bfloat16")},
    )
    return RenderState("digest", (walk, WalkState(1, 8, {"latents": torch.ones(1)})))


def test_a_state_is_read_back_to_the_last_bit() -> None:
    before, after = state(), decode_state(encode_state(state()))
    assert (after.digest, after.step) == ("digest", 4)
    for one, other in zip(before.walks, after.walks, strict=True):
        assert (one.calls, one.of, one.plain, one.outputs) == (
            other.calls,
            other.of,
            other.plain,
            other.outputs,
        )
        assert one.tensors.keys() == other.tensors.keys()
        for name, tensor in one.tensors.items():
            assert tensor.dtype == other.tensors[name].dtype
            assert torch.equal(tensor, other.tensors[name])


def test_the_same_state_has_the_same_bytes() -> None:
    assert encode_state(state()) == encode_state(state())


def with_header(header: object) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no header"),
        (b"\xff" * 64, "no header"),
        (encode_state(state())[:40], "cannot be read"),
        (with_header({}), "cannot be read"),
        (with_header({"__metadata__": {"callsheet": "{"}}), "cannot be read"),
        (with_header({"__metadata__": {"callsheet": '{"version": 2}'}}), "of version 2"),
        (encode_state(state())[:-1], "cut off"),
        (with_header({"__metadata__": {"callsheet": '{"version": 1}'}}), "cannot be read"),
    ],
)
def test_what_is_no_state_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(StateUnreadable, match=why):
        decode_state(content)
