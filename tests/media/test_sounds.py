"""Sound as it is decoded, put together and measured."""

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet.media.loudness import Loudness, LoudnessMeter
from callsheet.media.opening import Bounds, Unreadable
from callsheet.media.sound_decoding import BLOCK, Stretch, Waveform, blocks_of, sound_blocks
from callsheet.media.tempo import stretched
from callsheet.media.voices import Envelope, Part, Voice, length_of, mixed
from callsheet.tasks.v1.media_pb2 import (
    AUDIO_FORMAT_FLAC,
    AUDIO_FORMAT_MP3,
    AUDIO_FORMAT_OPUS,
    AUDIO_FORMAT_WAV,
    AudioFormat,
)
from tests.support.media_files import level_of, pitch_of, plain, sound_file, tone, video_file

BOUNDS = Bounds(10**6, timedelta(hours=1))


def heard(content: bytes, stretch: Stretch, bounds: Bounds = BOUNDS) -> Waveform:
    return np.concatenate([*sound_blocks(io.BytesIO(content), bounds, stretch)], axis=1)


@pytest.mark.parametrize(("have", "want"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_a_tone_is_as_loud_on_one_channel_as_on_two(tmp_path: Path, have: int, want: int) -> None:
    content = sound_file(tone(440, channels=have), tmp_path)
    found = heard(content, Stretch(0, None, 24_000, want))
    assert found.shape == (want, 24_000)
    for channel in found:
        level = level_of(channel[None, :], hertz=440, rate=24_000)
        assert level == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "format", [AUDIO_FORMAT_WAV, AUDIO_FORMAT_MP3, AUDIO_FORMAT_OPUS, AUDIO_FORMAT_FLAC]
)
def test_a_part_of_any_sound_begins_where_it_should(
    tmp_path: Path,
    format: AudioFormat.ValueType,  # noqa: A002 - the contract's word
) -> None:
    """Also far behind its beginning: two seconds of one tone, and two of another."""
    whole = np.concatenate([tone(440, seconds=2), tone(1000, seconds=2)], axis=1)
    content = sound_file(whole, tmp_path, format=format)
    found = heard(content, Stretch(1.5, 2.5, 48_000, 1))
    assert found.shape == (1, 48_000)
    early, late = found[:, :22_000], found[:, 26_000:]
    assert pitch_of(early, rate=48_000) == pytest.approx(440, abs=5)
    assert pitch_of(late, rate=48_000) == pytest.approx(1000, abs=5)
    # And the change is where it was, to a few milliseconds
    change = found[:, 24_000 - 480 : 24_000]
    assert level_of(change, hertz=440, rate=48_000) > 0.3


def test_sound_that_begins_late_is_silent_before(tmp_path: Path) -> None:
    late = np.concatenate([np.zeros((1, 24_000), np.float32), tone(440, seconds=0.5)], axis=1)
    film = video_file([plain((0, 0, 0))] * 10, tmp_path, waveform=late)
    found = heard(film, Stretch(0.25, None, 48_000, 1))
    assert np.abs(found[:, :11_000]).max() < 0.02
    assert level_of(found[:, 13_000:34_000], hertz=440, rate=48_000) > 0.4


def test_blocks_are_whole_but_for_the_last_one() -> None:
    pieces = [np.full((2, count), 1, np.float32) for count in (10, BLOCK * 2, 7)]
    assert [block.shape[1] for block in blocks_of(pieces)] == [BLOCK, BLOCK, 17]


def test_a_sound_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    content = sound_file(tone(440, seconds=3), tmp_path)
    with pytest.raises(Unreadable, match="plays longer than 2 seconds"):
        heard(content, Stretch(0, None, 8000, 1), Bounds(10**6, timedelta(seconds=2)))


def ones(count: int) -> Iterator[Waveform]:
    """Yield so many samples of full scale, in small pieces."""
    while count > 0:
        yield np.ones((1, min(7, count)), np.float32)
        count -= 7


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(0, 40))
def test_a_voice_is_the_same_however_it_is_taken(counts: list[int], at: int) -> None:
    envelope = Envelope(gain=0.5, fade_in=10, fade_out=10, length=60)
    whole = Voice(lambda: ones(60), channels=1, at=at, envelope=envelope).take(1000)
    voice = Voice(lambda: ones(60), channels=1, at=at, envelope=envelope)
    parts = [voice.take(count) for count in counts]
    taken = np.concatenate(parts, axis=1)
    assert whole.shape == (1, 60 + at)
    assert np.array_equal(taken, whole[:, : taken.shape[1]])
    assert taken.shape[1] == min(sum(counts), 60 + at)


def test_an_envelope_rises_and_falls_in_straight_lines() -> None:
    envelope = Envelope(gain=2, fade_in=4, fade_out=4, length=12)
    shaped = envelope.shaped(np.ones((1, 12), np.float32), place=0)[0]
    assert shaped.tolist() == [0, 0.5, 1, 1.5, 2, 2, 2, 2, 1.5, 1, 0.5, 0]


def test_a_mix_is_as_long_as_what_ends_last() -> None:
    parts = [
        Part(begin=lambda: ones(10), at=0, envelope=Envelope()),
        Part(begin=lambda: ones(5), at=20, envelope=Envelope(gain=0.25)),
    ]
    whole = np.concatenate([*mixed(parts, channels=1, whole=Envelope())], axis=1)[0]
    assert whole.tolist() == [1] * 10 + [0] * 10 + [0.25] * 5
    assert length_of(lambda: mixed(parts, channels=1, whole=Envelope())) == 25


def test_the_meter_hears_a_tone_of_known_loudness() -> None:
    """A tone of 997 hertz at full scale on both channels is 0 LUFS, by the standard's own words."""
    meter = LoudnessMeter(rate=48_000, channels=2)
    for _ in range(4):
        meter.hear(tone(997, seconds=0.5, channels=2, level=10 ** (-20 / 20)))
    told = meter.loudness()
    assert told is not None
    assert told.integrated == pytest.approx(-20, abs=0.2)
    assert told.true_peak == pytest.approx(-20, abs=0.2)


@pytest.mark.parametrize("samples", [0, 100, 48_000])
def test_silence_and_next_to_nothing_have_no_loudness(samples: int) -> None:
    meter = LoudnessMeter(rate=48_000, channels=1)
    if samples:
        meter.hear(np.zeros((1, samples), np.float32))
    assert meter.loudness() is None


def test_a_gain_is_bounded_by_the_peak() -> None:
    quiet = Loudness(integrated=-30, true_peak=-10)
    assert quiet.gain_to(-20, true_peak_db=0) == pytest.approx(10 ** (10 / 20))
    assert quiet.gain_to(-14, true_peak_db=-1) == pytest.approx(10 ** (9 / 20))
    louder = quiet.louder(10 ** (9 / 20))
    assert (louder.integrated, louder.true_peak) == (pytest.approx(-21), pytest.approx(-1))


@pytest.mark.parametrize("speed", [0.5, 1.5, 2])
def test_speech_is_made_faster_at_its_own_height(speed: float) -> None:
    found = stretched(tone(300, rate=16_000), speed=speed, rate=16_000)
    assert found.shape[1] == pytest.approx(16_000 / speed, rel=0.05)
    assert pitch_of(found, rate=16_000) == pytest.approx(300, abs=4)
