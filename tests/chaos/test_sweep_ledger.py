"""Control, workers and upkeep, struck at every request they make in the life of tasks.

The connection is cut before or after the request is executed, or the process ends; whatever the
point, the life comes to the same end. `-k worker-die` chooses groups.
"""

from typing import Final

import pytest

from tests.chaos.sweep.seam import Mode
from tests.chaos.sweep.stage import Stage, announce

ROLES: Final = ("control", "worker", "upkeep")


@pytest.mark.parametrize("mode", [Mode.CUT_BEFORE, Mode.CUT_AFTER], ids=Mode.slug)
@pytest.mark.parametrize("role", ROLES)
async def test_a_cut_that_a_role_sees_changes_nothing_in_the_end(
    stage: Stage, role: str, mode: Mode, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(stage, role, mode, capsys)
    await stage.sweep(role, mode, is_patient=False)


@pytest.mark.parametrize("role", ROLES)
async def test_what_was_executed_and_is_sent_again_happens_once(
    stage: Stage, role: str, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(stage, role, Mode.CUT_AFTER, capsys)
    await stage.sweep(role, Mode.CUT_AFTER, is_patient=True)


# For a role that does nothing outside the server, to die before a request is to die after the one
# before it.
@pytest.mark.parametrize(
    ("role", "mode"),
    [*((role, Mode.DIE_AFTER) for role in ROLES), ("worker", Mode.DIE_BEFORE)],
    ids=lambda each: each.slug() if isinstance(each, Mode) else str(each),
)
async def test_a_process_that_ends_is_followed_by_another_that_goes_on(
    stage: Stage, role: str, mode: Mode, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(stage, role, mode, capsys)
    await stage.sweep(role, mode, is_patient=True)
