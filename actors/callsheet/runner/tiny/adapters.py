"""The tiny LoRAs and ControlNets, which change what a tiny model draws."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from callsheet.runner.untyped import Untyped, imported

_RANK: Final = 4


def save_lora(folder: Path, *, unet: Callable[[], Untyped], pipeline_class: str) -> None:
    """Save a LoRA for denoisers like the one given into a folder."""
    changed = unet()
    changed.add_adapter(
        imported("peft").LoraConfig(
            r=_RANK,
            lora_alpha=_RANK,
            init_lora_weights=False,  # else it would change nothing
            target_modules=["to_q", "to_k", "to_v", "to_out.0"],
        )
    )
    getattr(imported("diffusers"), pipeline_class).save_lora_weights(
        folder, unet_lora_layers=imported("peft.utils").get_peft_model_state_dict(changed)
    )


def save_controlnet(folder: Path, *, unet: Callable[[], Untyped]) -> None:
    """Save a ControlNet for denoisers like the one given into a folder."""
    torch = imported("torch")
    controlnet = imported("diffusers").ControlNetModel.from_unet(
        unet(), conditioning_embedding_out_channels=(8, 16, 16, 16)
    )
    gates = [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]
    gates.append(controlnet.controlnet_cond_embedding.conv_out)
    for gate in gates:
        # Training opens these from zero; closed, the control image would change nothing.
        torch.nn.init.normal_(gate.weight, std=0.1)
    controlnet.save_pretrained(folder, safe_serialization=True)
