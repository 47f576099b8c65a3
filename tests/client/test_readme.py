"""What the README of the client shows is what happens."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import callsheet.client
from callsheet.client.cli.parser import build_parser
from callsheet.client.testing import progress, running_fake, succeed
from callsheet.tasks.v1.artifact_pb2 import Artifact
from callsheet.tasks.v1.generate_image_pb2 import GenerateImageInput, GenerateImageOutput
from callsheet.tasks.v1.ping_pb2 import PingInput, PingOutput

README = Path(callsheet.client.__path__[0], "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(
    r"^## ([^\n]+)\n+(?:[^`]*?)```python\n(.*?)```", README, re.DOTALL | re.MULTILINE
)
COMMANDS = re.findall(r"^\$ callsheet (.*)$", README, re.MULTILINE)


@pytest.mark.parametrize(("title", "block"), BLOCKS, ids=[title for title, _ in BLOCKS])
def test_every_block_runs(
    title: str, block: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_fake() as fake:
        image = Artifact(uri="https://media.example/kite.png")
        fake.script(
            GenerateImageInput,
            progress(1, total=2),
            succeed(GenerateImageOutput(seed=7, images=[image])),
        )
        fake.script(PingInput, succeed(PingOutput(echo="hello")))
        monkeypatch.setenv("CALLSHEET_GRPC_ADDRESS", fake.address)
        monkeypatch.setenv("CALLSHEET_API_KEY", fake.key)
        exec(compile(block, title, "exec"), {"__name__": "readme"})  # noqa: S102 - our own file
    printed = capsys.readouterr().out
    if title == "With asyncio":
        assert printed.endswith("7 ['https://media.example/kite.png']\n")
    if title == "Without asyncio":
        assert printed.startswith("hello\n")


def test_all_blocks_are_found() -> None:
    assert len(BLOCKS) == README.count("```python") == 5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_one(command: str) -> None:
    assert build_parser().parse_args(shlex.split(command.partition("|")[0]))


def test_commands_are_found() -> None:
    assert len(COMMANDS) == 11
