"""What the workload asks for: tasks of many kinds, drawn by chance from a seed."""

import random  # noqa: TID251  # chance that a run can repeat is what a seed is for
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration

from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput
from callsheet.tasks.v1.ping_pb2 import PingInput
from callsheet.v1 import task_pb2
from callsheet.v1.task_service_pb2 import SubmitTaskRequest
from callsheet.v1.task_spec_pb2 import TaskSpec
from tests.chaos.calls import Intent
from tests.chaos.work import Verb, told

_LONGEST: Final = timedelta(milliseconds=300)
_RECEIVERS: Final[Mapping[str, int]] = {
    "receiver-honest": 50,
    "receiver-slow": 12,
    "receiver-failing": 12,
    "receiver-hanging": 6,
    "receiver-lying": 17,
    "receiver-refusing": 3,
}
_EVENTS: Final = (
    task_pb2.CALLBACK_EVENT_QUEUED,
    task_pb2.CALLBACK_EVENT_STARTED,
    task_pb2.CALLBACK_EVENT_RETRYING,
    task_pb2.CALLBACK_EVENT_CANCELLED,
)


@dataclass(frozen=True)
class Shape:
    """One wish: the request without its id, and what is done with the task besides."""

    request: SubmitTaskRequest
    intent: Intent
    receiver: str = ""
    #: When it is cancelled, after it was accepted. None: it is not.
    cancel_after: timedelta | None = None
    watch: bool = False
    probe: bool = False
    retry: bool = False


class Shapes:
    """Draws wishes; *hook* returns the URL of a receiver."""

    def __init__(self, seed: int, hook: Callable[[str], str]) -> None:
        self._dice = random.Random(seed)  # noqa: S311  # no secret
        self._hook = hook
        self._numbers = 0

    def chance(self, share: float) -> bool:
        """Return true so often."""
        return self._dice.random() < share

    def choice(self, names: tuple[str, ...]) -> str:
        """Return one of them."""
        return self._dice.choice(names)

    def length(self, longest: timedelta) -> timedelta:
        """Return any length up to the longest."""
        return longest * self._dice.random()

    def draw(self) -> Shape:
        """Return the next wish."""
        draw = self._dice.choices(list(_KINDS), list(_KINDS.values()))[0]
        shape = draw(self)
        request = shape.request
        if self.chance(0.3):
            request.priority = self._dice.randrange(10)
        receiver = ""
        if shape.intent != "refuse" and self.chance(0.5):
            receiver = self._dice.choices(list(_RECEIVERS), list(_RECEIVERS.values()))[0]
            events = _EVENTS if self.chance(0.2) else ()
            request.callback.CopyFrom(task_pb2.Callback(url=self._hook(receiver), events=events))
        return Shape(
            request=request,
            intent=shape.intent,
            receiver=receiver,
            cancel_after=shape.cancel_after,
            watch=self.chance(0.25),
            probe=self.chance(0.05),
            retry=self.chance(0.3),
        )

    def plain(self) -> SubmitTaskRequest:
        """Return the request of a ping that succeeds."""
        return self._ping("succeed")

    def _ping(self, verb: Verb) -> SubmitTaskRequest:
        self._numbers += 1
        words = f"{told(verb, self.length(_LONGEST))} {self._numbers}"
        return SubmitTaskRequest(spec=TaskSpec(ping=PingInput(echo=words)))

    def _image(self, verb: Verb) -> SubmitTaskRequest:
        self._numbers += 1
        prompt = f"{told(verb, self.length(_LONGEST))} {self._numbers}"
        return SubmitTaskRequest(spec=TaskSpec(generate_image=GenerateImageInput(prompt=prompt)))

    def quick(self) -> Shape:
        return Shape(self._ping("succeed"), "succeed")

    def failing(self) -> Shape:
        return Shape(self._ping("fail"), "fail")

    def stumbling(self) -> Shape:
        return Shape(self._ping("stumble"), "any")

    def rejected(self) -> Shape:
        return Shape(self._ping("reject"), "fail")

    def delayed(self) -> Shape:
        request = self._ping("succeed")
        request.delay.FromTimedelta(self.length(timedelta(seconds=3)))
        return Shape(request, "succeed")

    def expiring(self) -> Shape:
        """It may wait for less time than it has to."""
        request = self._ping("succeed")
        request.delay.FromSeconds(4)
        request.expire_after.FromSeconds(2)
        return Shape(request, "any")

    def hurried(self) -> Shape:
        request = self._ping("succeed")
        request.expire_after.FromSeconds(2)
        return Shape(request, "any")

    def cancelled(self) -> Shape:
        request = self._ping("succeed")
        request.spec.ping.echo = f"{told('succeed', timedelta(seconds=8))} {self._numbers}"
        return Shape(request, "any", cancel_after=self.length(timedelta(seconds=2)))

    def caught(self) -> Shape:
        """It may have ended when it is cancelled."""
        return Shape(self._ping("succeed"), "any", cancel_after=self.length(2 * _LONGEST))

    def invalid(self) -> Shape:
        request = self._ping("succeed")
        if self.chance(0.5):
            request.spec.ping.duration.CopyFrom(Duration(seconds=-1))
        else:
            request.spec.ping.echo = "x" * 257
        return Shape(request, "refuse")

    def drawn(self) -> Shape:
        return Shape(self._image("succeed"), "succeed")

    def drawn_and_cancelled(self) -> Shape:
        request = self._image("succeed")
        request.spec.generate_image.prompt = told("succeed", timedelta(seconds=4))
        return Shape(request, "any", cancel_after=self.length(timedelta(seconds=2)))

    def poisonous(self) -> Shape:
        return Shape(self._image("poison"), "poison")


_KINDS: Final[Mapping[Callable[[Shapes], Shape], float]] = {
    Shapes.quick: 68,
    Shapes.failing: 2,
    Shapes.stumbling: 3,
    Shapes.rejected: 2,
    Shapes.delayed: 5,
    Shapes.expiring: 2,
    Shapes.hurried: 2,
    Shapes.cancelled: 3,
    Shapes.caught: 4,
    Shapes.invalid: 2,
    Shapes.drawn: 5,
    Shapes.drawn_and_cancelled: 0.7,
    Shapes.poisonous: 0.3,
}
