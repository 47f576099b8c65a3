"""The roles of the sidecar, struck at every request they make, as the others are."""

from typing import Final

import pytest

from tests.chaos.sweep.seam import Mode
from tests.chaos.sweep.stage import Stage, announce

ROLES: Final = ("tailer", "registrar", "courier", "teller")
#: Those that speak to others between two requests.
OUTGOING: Final = ("courier", "teller")


@pytest.mark.parametrize("mode", [Mode.CUT_BEFORE, Mode.CUT_AFTER], ids=Mode.slug)
@pytest.mark.parametrize("role", ROLES)
async def test_a_cut_changes_nothing_in_the_end(
    stage: Stage, role: str, mode: Mode, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(stage, role, mode, capsys)
    await stage.sweep(role, mode, is_patient=True)


# For a role that speaks to nobody else, to die before a request is to die after the one before it.
@pytest.mark.parametrize(
    ("role", "mode"),
    [
        *((role, Mode.DIE_AFTER) for role in ROLES),
        *((role, Mode.DIE_BEFORE) for role in OUTGOING),
    ],
    ids=lambda each: each.slug() if isinstance(each, Mode) else str(each),
)
async def test_a_process_that_ends_is_followed_by_another_that_goes_on(
    stage: Stage, role: str, mode: Mode, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(stage, role, mode, capsys)
    await stage.sweep(role, mode, is_patient=True)
