"""Which diffusers scheduler each scheduler of the contract is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from callsheet.tasks.v1.generate_image_pb2 import (
    SCHEDULER_DDIM,
    SCHEDULER_DPMPP_2M,
    SCHEDULER_EULER,
    SCHEDULER_EULER_ANCESTRAL,
    SCHEDULER_UNIPC,
    Scheduler,
)


@dataclass(frozen=True)
class SchedulerChoice:
    """A scheduler class of diffusers, and what is set whatever the model's own scheduler says."""

    class_name: str
    overrides: Mapping[str, object] = field(default_factory=dict[str, object])


#: DDIM's own defaults are those of pixel models: clipping would tear latents.
_DDIM_ON_LATENTS: Final = MappingProxyType({"clip_sample": False, "set_alpha_to_one": False})
_SECOND_ORDER: Final = MappingProxyType({"algorithm_type": "dpmsolver++", "solver_order": 2})

CHOICES: Final[Mapping[Scheduler.ValueType, SchedulerChoice]] = MappingProxyType(
    {
        SCHEDULER_EULER: SchedulerChoice("EulerDiscreteScheduler"),
        SCHEDULER_EULER_ANCESTRAL: SchedulerChoice("EulerAncestralDiscreteScheduler"),
        SCHEDULER_DDIM: SchedulerChoice("DDIMScheduler", _DDIM_ON_LATENTS),
        SCHEDULER_DPMPP_2M: SchedulerChoice("DPMSolverMultistepScheduler", _SECOND_ORDER),
        SCHEDULER_UNIPC: SchedulerChoice("UniPCMultistepScheduler"),
    }
)


def matches_flow(class_name: str, config: Mapping[str, object]) -> bool:
    """Tell whether a model's own scheduler matches flows: then no other one can walk its steps."""
    return (
        class_name.startswith("FlowMatch")
        or config.get("prediction_type") == "flow_prediction"
        or config.get("use_flow_sigmas") is True
    )
