"""The edge to diffusers, with the real library and the tiny model."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from callsheet.runner.add_ons import AddOnFiles
from callsheet.runner.context import HandlerFailure
from callsheet.runner.diffusion import DiffusionEngine
from callsheet.runner.pipelines import Pipelines, Warm
from callsheet.runner.rendering import Mode, RenderRequest
from callsheet.runner.schedulers import CHOICES, matches_flow
from callsheet.runner.tiny.folders import built_in_folder
from callsheet.runtime.families import Family
from callsheet.runtime.models import BUILT_IN, TINY_RANDOM, Catalogue, Model
from callsheet.tasks.v1.generate_image_pb2 import (
    SCHEDULER_EULER,
    SCHEDULER_EULER_ANCESTRAL,
    SCHEDULER_UNSPECIFIED,
    Scheduler,
)
from callsheet.v1.task_pb2 import (
    FAILURE_REASON_INVALID_INPUT,
    FAILURE_REASON_MODEL_NOT_FOUND,
    FAILURE_REASON_UNAVAILABLE,
)
from tests.support.rendering import Controls, contents, item, request_of

# What the libraries warn of is theirs to mend.
pytestmark = pytest.mark.filterwarnings("ignore")

#: A model of a flow-matching family, as far as its scheduler says.
FLOW = '{"_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.42.1"}'


@pytest.fixture(scope="module")
def tiny_folder(cache_dir: Path) -> Path:
    """The folder of the tiny model; not to be changed."""
    return built_in_folder(TINY_RANDOM, cache_dir=cache_dir)


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Warm:
    """The tiny model, loaded as every other is."""
    return loaded(BUILT_IN, tiny_folder)


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model for a test to damage."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def subprocess_of(code: str, argument: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(argument)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def loaded(model: Model, folder: Path) -> Warm:
    files = AddOnFiles(Catalogue({model.name: model}, default=""), cache_dir=folder)
    return DiffusionEngine("cpu").load(model, folder=folder, files=files)


def local(path: Path) -> Model:
    return replace(BUILT_IN, name="film", path=path)


def from_hub() -> Model:
    return replace(BUILT_IN, name="film", hub_id="nobody/nothing", revision="1")


def pipelines(model: Model, tmp_path: Path, *, device: str = "cpu") -> Pipelines:
    catalogue = Catalogue({model.name: model}, default=model.name)
    return Pipelines(catalogue, device=device, cache_dir=tmp_path, most_host_bytes=2**30)


def request(**other: object) -> RenderRequest:
    return replace(request_of(Family.SDXL, Mode.TEXT_TO_IMAGE), **other)


def test_every_scheduler_of_the_contract_is_one_of_diffusers() -> None:
    assert set(CHOICES) == set(Scheduler.values()) - {SCHEDULER_UNSPECIFIED}


@pytest.mark.parametrize("scheduler", Scheduler.values())
@pytest.mark.parametrize("steps", [1, 3])
def test_every_scheduler_draws_the_same_image_twice(
    tiny: Warm, scheduler: Scheduler.ValueType, steps: int
) -> None:
    """In between comes another scheduler, whose state must not matter."""
    asked = request(scheduler=scheduler, steps=steps)
    first = tiny.render(asked, Controls())
    tiny.render(request(scheduler=SCHEDULER_EULER_ANCESTRAL, steps=2), Controls())
    again = tiny.render(asked, Controls())
    assert contents(again) == contents(first)
    own = "EulerDiscreteScheduler"
    name = CHOICES[scheduler].class_name if scheduler in CHOICES else own
    assert (first.scheduler, again.scheduler) == (name, name)


def test_seed_and_prompt_change_the_image(tiny: Warm) -> None:
    first = item(Mode.TEXT_TO_IMAGE)
    items = (first, replace(first, seed=2), replace(first, prompt="a hen"))
    assert len({*contents(tiny.render(request(items=items), Controls()))}) == 3


def test_the_largest_seed_is_a_seed(tiny: Warm) -> None:
    asked = request(items=(replace(item(Mode.TEXT_TO_IMAGE), seed=2**53 - 1),))
    assert len({contents(tiny.render(asked, Controls()))[0] for _ in range(2)}) == 1


def test_two_runners_may_build_the_tiny_model_at_once(tmp_path: Path, tiny_folder: Path) -> None:
    code = (
        "import sys, pathlib; from callsheet.runner.tiny.folders import built_in_folder;"
        " import torch, diffusers; print(flush=True); sys.stdin.readline();"
        " built_in_folder('tiny-random', cache_dir=pathlib.Path(sys.argv[1]))"
    )
    # Given two processes that have imported all they need
    with subprocess_of(code, tmp_path) as first, subprocess_of(code, tmp_path) as second:
        for process in (first, second):
            assert process.stdout is not None
            process.stdout.readline()
        # When both build
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        for process in (first, second):
            process.wait(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    # Then there is one folder and nothing else, and its weights are those of every other build
    folder = tmp_path / "models" / "tiny-random"
    assert list(folder.parent.iterdir()) == [folder]
    weights = [path.relative_to(tiny_folder) for path in tiny_folder.rglob("*.safetensors")]
    assert len(weights) == 4
    for path in weights:
        assert (folder / path).read_bytes() == (tiny_folder / path).read_bytes()


def test_an_empty_name_is_the_built_in_model(tmp_path: Path) -> None:
    assert pipelines(BUILT_IN, tmp_path).get("").model.name == "tiny-random"


def cut_off(folder: Path) -> None:
    os.truncate(folder / "unet" / "diffusion_pytorch_model.safetensors", 1000)


def fill_with_noise(folder: Path) -> None:
    (folder / "text_encoder" / "model.safetensors").write_bytes(b"noise" * 1000)


def lose_a_part(folder: Path) -> None:
    shutil.rmtree(folder / "vae")


def break_the_index(folder: Path) -> None:
    (folder / "model_index.json").write_text("{}")


def turn_into_pickles(folder: Path) -> None:
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.bin"))


@pytest.mark.parametrize(
    "damage", [cut_off, fill_with_noise, lose_a_part, break_the_index, turn_into_pickles]
)
def test_a_damaged_model_is_not_found(
    copy: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(copy)
    with pytest.raises(HandlerFailure) as caught:
        pipelines(local(copy), tmp_path).get("film")
    assert caught.value.reason == FAILURE_REASON_MODEL_NOT_FOUND
    assert caught.value.message.startswith("model film cannot be loaded: its files are missing")
    assert str(copy) not in caught.value.message  # folders of this machine are for the log


def test_a_model_whose_folder_is_gone_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(HandlerFailure, match="the folder of model film is not there") as caught:
        pipelines(local(tmp_path / "gone"), tmp_path).get("film")
    assert caught.value.reason == FAILURE_REASON_MODEL_NOT_FOUND


def test_a_hub_that_is_away_may_be_back_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HandlerFailure, match="the hub is away") as caught:
        pipelines(from_hub(), tmp_path).get("film")
    assert caught.value.reason == FAILURE_REASON_UNAVAILABLE


def test_a_device_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    asked = pipelines(BUILT_IN, tmp_path, device="cuda:7")
    with pytest.raises(HandlerFailure, match="there is no device cuda:7 here") as caught:
        asked.get("")
    assert caught.value.reason == FAILURE_REASON_UNAVAILABLE


def test_a_flow_matching_model_takes_no_foreign_scheduler(copy: Path) -> None:
    (copy / "scheduler" / "scheduler_config.json").write_text(FLOW)
    index = copy / "model_index.json"
    index.write_text(
        index.read_text().replace("EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler")
    )
    flowing = loaded(local(copy), copy)
    with pytest.raises(HandlerFailure, match="takes no scheduler but its own Flow") as caught:
        flowing.render(request(scheduler=SCHEDULER_EULER), Controls())
    assert caught.value.reason == FAILURE_REASON_INVALID_INPUT


def test_a_scheduler_tells_whether_it_matches_flows() -> None:
    assert matches_flow("FlowMatchEulerDiscreteScheduler", {})
    assert matches_flow("UniPCMultistepScheduler", {"prediction_type": "flow_prediction"})
    assert matches_flow("UniPCMultistepScheduler", {"use_flow_sigmas": True})
    assert not matches_flow("UniPCMultistepScheduler", {"prediction_type": "epsilon"})
