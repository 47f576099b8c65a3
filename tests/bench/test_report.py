"""The report and its plot, of made-up values."""

import json
import re
from dataclasses import asdict, replace
from xml.etree import ElementTree as ET

import pytest

from tests.bench import contenders as bench_contenders
from tests.bench.comparison import summary
from tests.bench.contenders import contenders, left_out, names
from tests.bench.machine import processor
from tests.bench.measure import Figure
from tests.bench.options import ALONE, parse
from tests.bench.peer_list import PEERS
from tests.bench.plot import plot
from tests.bench.report import Report, Row, markdown, number
from tests.bench.scale_series import Series
from tests.bench.turn import Turn
from tests.bench.witnessed import HERE

OURS = Turn(
    idle_ms=(2.5,),
    submits_per_s={1: 900.0, 16: 2000.0, 64: 3456.7},
    tasks_per_s={1: 1234.5, 2: 1500.0},
    batch_per_s=16_000.0,
    bulk_tasks_per_s={1: 3000.0, 2: 3100.0},
)
THEIRS = Turn(idle_ms=(25.0,), submits_per_s={1: 500.0}, tasks_per_s={1: 99.94})
ROWS = (
    Row("Callsheet", "always", "eight slots", summary([OURS])),
    Row("Celery", "always", "solo", summary([THEIRS])),
    Row("empty handler", None, "nothing", summary([Turn(submits_per_s={64: 9000.0})])),
)
SERIES = (
    Series("claim_server_us", "µs", "tasks queued", ((1e3, 5.0), (1e6, 5.5))),
    Series("watch_one_p50_ms", "ms", "watchers of one task", ((1, 2.0), (1000, 20.0))),
)


def report(*, rows: tuple[Row, ...] = ROWS, left_out: dict[str, str] | None = None) -> Report:
    return Report(
        date="2001-02-03",
        machine="Abacus 1.0, 2 cores",
        rounds=3,
        rows=rows,
        series=SERIES,
        figures={"webhooks_per_s": Figure(1500.0, "webhooks/s", "bar 800")},
        left_out=left_out or {},
    )


def test_the_table_has_a_row_for_each_contender_and_a_cell_for_each_column() -> None:
    text = markdown(report(), plot="RESULTS.svg")
    assert (
        "| Callsheet | always | 2.50 | 2.50 | 2.50 | 900 | 2,000 | 3,457 | 1,234 | 1,500 |" in text
    )
    assert "| Celery | always | 25.0 | 25.0 | 25.0 | 500 | - | - | 99.9 | - |" in text
    assert "| empty handler | - | - | - | - | - | - | 9,000 | - | - |" in text
    assert "| Callsheet | always | 16,000 | 3,000 | 3,100 |" in text
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_report_says_when_and_where_it_was_measured_and_how_each_was_set_up() -> None:
    text = markdown(report(), plot="RESULTS.svg")
    assert "2001-02-03. Abacus 1.0, 2 cores. 3 rounds." in text
    assert "- Celery: solo." in text
    assert "](RESULTS.svg)" in text
    assert "| `webhooks_per_s` | 1,500 webhooks/s | - | bar 800 |" in text


def test_lines_over_the_same_sizes_share_a_table() -> None:
    text = markdown(report(), plot=None)
    assert "| what | unit | by | 1,000 | 1,000,000 |" in text
    assert "| `claim_server_us` | µs | tasks queued | 5.00 | 5.50 |" in text
    assert "| what | unit | by | 1 | 1,000 |" in text


def test_who_was_left_out_is_named() -> None:
    assert "**Left out: SAQ**, no network." in markdown(
        report(left_out={"SAQ": "no network"}), plot=None
    )


def test_a_run_of_figures_alone_has_no_table_of_contenders() -> None:
    text = markdown(report(rows=()), plot=None)
    assert "Side by side" not in text
    assert "webhooks_per_s" in text


def test_the_plot_is_svg_with_each_contender_and_each_line_and_no_script() -> None:
    drawn = plot(ROWS, SERIES)
    assert drawn is not None
    root = ET.fromstring(drawn)  # noqa: S314  # it was written one line above
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = " ".join(element.text or "" for element in root.iter() if element.text)
    assert {"Callsheet, always", "Celery, always", "claim_server_us", "watch_one_p50_ms"} <= {
        element.text for element in root.iter()
    }
    assert "empty handler" not in texts
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    bars = [element for element in root.iter() if "bar" in element.get("class", "").split()]
    assert len(bars) == 4  # two contenders that work, in two charts


def test_the_same_values_draw_the_same_plot() -> None:
    assert plot(ROWS, SERIES) == plot(ROWS, SERIES)


def test_nothing_measured_draws_nothing() -> None:
    assert plot((), ()) is None
    assert plot(ROWS[2:], ()) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.456, "0.46"), (12.34, "12.3"), (100.4, "100"), (1234567.8, "1,234,568")],
)
def test_a_number_has_the_digits_that_count(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_figure_is_written_with_the_fields_that_issues_read() -> None:
    assert json.loads(json.dumps(asdict(Figure(1.0, "ms", "bar 2")))) == {
        "value": 1.0,
        "unit": "ms",
        "against": "bar 2",
        "ratio": None,
    }


def test_without_a_choice_everything_is_measured() -> None:
    assert set(parse([]).parts) == {*names(), *ALONE}
    assert parse(["--only", "celery", "scale"]).parts == ("celery", "scale")
    with pytest.raises(SystemExit):
        parse(["--only", "rabbits"])


def test_a_quick_run_is_never_published() -> None:
    with pytest.raises(SystemExit):
        parse(["--quick", "--publish"])


def test_a_peer_that_is_not_installed_is_left_out_and_said_to_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = replace(PEERS[0], name="rabbits", title="Rabbits")
    monkeypatch.setattr(bench_contenders, "PEERS", (missing,))
    assert list(left_out(["rabbits"])) == ["Rabbits"]
    assert left_out(["callsheet"]) == {}
    assert "rabbits" not in {contender.name for contender in contenders()}


def test_every_contender_has_a_key_of_its_own() -> None:
    keys = [contender.key for contender in contenders()]
    assert len(set(keys)) == len(keys)
    assert {contender.name for contender in contenders()} <= set(names())


def test_every_peer_has_an_app_and_exact_requirements() -> None:
    for peer in PEERS:
        home = HERE / "peers" / peer.name
        assert (home / "app.py").is_file()
        lines = (home / "requirements.txt").read_text().splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[0-9][\w.]*", pin)] == []


def test_no_peer_knows_callsheet() -> None:
    for peer in PEERS:
        assert "callsheet" not in (HERE / "peers" / peer.name / "app.py").read_text().lower()


def test_the_processor_is_read_from_the_kernel() -> None:
    assert processor("processor : 0\nmodel name\t: Abacus(R) @ 1 GHz\n") == "Abacus(R) @ 1 GHz"
    assert processor("") == "unknown CPU"
