"""What people write: command lines, the environment, catalogues and files of models."""

import io
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from unittest import mock

from safetensors import SafetensorError
from safetensors.numpy import load

from callsheet.client.cli.exits import UsageError
from callsheet.client.cli.fields import read_input
from callsheet.client.cli.main import main
from callsheet.client.cli.parser import build_parser
from callsheet.client.task_types import task_types
from callsheet.embedded.arguments import command_line
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.safetensors_header import WeightsDamaged, tensors_of
from callsheet.runtime.settings import Settings, SettingsError, describe, load_settings, variable_of
from callsheet.runtime.toml_table import CatalogueInvalid
from tests.fuzz.target import Check, Target, plain

#: argparse's own for a line that is wrong, and for `--help`.
_EXITS: Final = frozenset({0, 2})
_SECRETS: Final = tuple(
    variable_of(name) for name, field in Settings.model_fields.items() if "Secret" in repr(field)
)
_LONGEST: Final = 200_000


def _words(content: bytes) -> list[str]:
    """Return what the bytes are as a command line: no word of one holds a zero byte."""
    return [os.fsdecode(word) for word in content.split(b"\0")]


@contextmanager
def _silent(stdin: str = "") -> Generator[io.StringIO]:
    said = io.StringIO()
    given = mock.patch.object(sys, "stdin", io.StringIO(stdin))
    with redirect_stdout(said), redirect_stderr(said), given:
        yield said


def _is_well_ended(end: SystemExit, said: io.StringIO) -> None:
    assert end.code in _EXITS
    assert "Traceback" not in said.getvalue()


def _client_line(content: bytes) -> None:
    """A line of `callsheet` is understood, or refused in one line; so is what it submits."""
    with _silent(stdin='{"echo": "x"}') as said:
        try:
            options = build_parser().parse_args(_words(content))
        except SystemExit as end:
            _is_well_ended(end, said)
            return
        kind = getattr(options, "task_type", "")
        if kind in task_types() and hasattr(options, "json_input"):
            is_standard = options.json_input in (None, "-")
            source = options.json_input if is_standard else os.devnull
            try:
                read_input(task_types()[kind].input_class, options=vars(options), json_input=source)
            except UsageError:
                return


def _keyless_line(content: bytes) -> None:
    """Run without a key, every line ends with a documented code, and says why in one line."""
    with TemporaryDirectory() as folder, _in(Path(folder)), _silent(stdin="{}") as said:
        try:
            code = main([*_words(content), "--address=127.0.0.1:1"])
        except SystemExit as end:
            code = end.code
        assert code in {0, 2}, said.getvalue()
        assert "Traceback" not in said.getvalue()


@contextmanager
def _in(folder: Path) -> Generator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ, clear=True):
            yield
    finally:
        os.chdir(before)


def _daemon_line(content: bytes) -> None:
    """A line of `callsheetd` is understood or refused; nothing is started here."""
    with _silent() as said:
        try:
            asked = command_line().parse_args(_words(content))
        except SystemExit as end:
            _is_well_ended(end, said)
            return
        assert asked.command


def _environment(content: bytes) -> None:
    """An environment makes settings that can be shown, or one sentence for each bad variable.

    What is secret in it is in neither.
    """
    pairs = [line.partition(b"=") for line in content.replace(b"\0", b"").split(b"\n")]
    given = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs if name}
    with mock.patch.dict(os.environ, given, clear=True):
        try:
            shown = " ".join(row.value for row in describe(load_settings()))
        except SettingsError as error:
            shown = str(error)
    assert len(shown) < _LONGEST
    for variable in _SECRETS:
        secret = given.get(variable, "")
        others = " ".join(value for name, value in given.items() if name != variable)
        if len(secret) >= 12 and secret not in others and secret not in _WORDS:
            assert secret not in shown, f"{variable} was shown"


#: A secret that is one of our own words is shown by accident.
_WORDS: Final = " ".join(Settings.model_fields) + " ".join(
    field.description or "" for field in Settings.model_fields.values()
)


@contextmanager
def _catalogues() -> Generator[Check]:
    with TemporaryDirectory() as folder:
        file = Path(folder, "models.toml")

        def check(content: bytes) -> None:
            file.write_bytes(content)
            try:
                catalogue = load_catalogue(file)
            except CatalogueInvalid:
                return
            for mode, default in catalogue.defaults.items():
                assert not default or catalogue.find("", mode=mode).name == default

        yield check


@contextmanager
def _weights() -> Generator[Check]:
    """A file of weights is refused by the look at its head whenever its own library refuses it."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "model.safetensors")

        def check(content: bytes) -> None:
            file.write_bytes(content)
            try:
                tensors_of(file)
            except WeightsDamaged:
                return
            try:
                load(content)
            except (ValueError, KeyError):
                return  # numpy has no name for a format that torch has
            except SafetensorError as error:
                raise AssertionError(f"what is damaged was not seen: {error}") from error

        yield check


TARGETS: Final = (
    plain("client_line", _client_line, examples=30),
    plain("keyless_line", _keyless_line, examples=20),
    plain("daemon_line", _daemon_line, examples=30),
    plain("environment", _environment, examples=30),
    Target("catalogue", _catalogues),
    Target("weights", _weights),
)
