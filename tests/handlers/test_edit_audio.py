"""The task type edit_audio: what comes out is decoded, and heard."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from callsheet.handlers import edit_audio
from callsheet.media.limits import MediaLimits
from callsheet.media.loudness import LoudnessMeter
from callsheet.runner.context import HandlerFailure, TaskStopped
from callsheet.tasks.v1.artifact_pb2 import ARTIFACT_ROLE_PROVENANCE
from callsheet.tasks.v1.edit_audio_pb2 import AudioTrack, EditAudioInput
from callsheet.tasks.v1.media_pb2 import (
    AUDIO_FORMAT_FLAC,
    AUDIO_FORMAT_MP3,
    AUDIO_FORMAT_OPUS,
    AUDIO_FORMAT_WAV,
    AudioFormat,
    MediaReference,
)
from callsheet.v1.task_pb2 import FAILURE_REASON_INVALID_INPUT
from tests.support.handling import HandlerContext, is_context
from tests.support.media_files import (
    level_of,
    pitch_of,
    plain,
    seconds,
    seen,
    sound_file,
    tone,
    video_file,
)

RATE = 48_000


@pytest.fixture
def context(tmp_path: Path) -> HandlerContext:
    context = HandlerContext(tmp_path)
    is_context(context)
    return context


@pytest.fixture
def low(context: HandlerContext, tmp_path: Path) -> MediaReference:
    """A second of 440 hertz."""
    return context.upload(sound_file(tone(440), tmp_path), suffix="wav")


@pytest.fixture
def high(context: HandlerContext, tmp_path: Path) -> MediaReference:
    """Half a second of 1,000 hertz, on two channels, at another rate."""
    waveform = tone(1000, seconds=0.5, rate=32_000, channels=2)
    return context.upload(sound_file(waveform, tmp_path, rate=32_000), suffix="wav")


def test_tracks_are_cut_placed_and_heard_together(
    context: HandlerContext, low: MediaReference, high: MediaReference
) -> None:
    output = edit_audio.run(
        EditAudioInput(
            tracks=[
                AudioTrack(audio=low, start=seconds(0.25), end=seconds(0.85)),
                AudioTrack(audio=high, at=seconds(0.4), volume_db=-6.0206),
            ]
        ),
        context,
    )
    # Then it is as long as what ends last, with the rate and the channels of the richest track
    made = seen(context.content(output.audio))
    assert made.codecs == ("pcm_s16le",)
    assert made.waveform.shape == (2, round(0.9 * RATE))
    # And each is heard where it was put, as loud as it was asked to be
    alone, both, rest = (
        made.waveform[:, round(a * RATE) : round(b * RATE)]
        for a, b in ((0, 0.4), (0.4, 0.6), (0.6, 0.9))
    )
    assert level_of(alone, hertz=440, rate=RATE) == pytest.approx(0.5, abs=0.02)
    assert level_of(alone, hertz=1000, rate=RATE) < 0.01
    assert level_of(both, hertz=440, rate=RATE) == pytest.approx(0.5, abs=0.02)
    assert level_of(both, hertz=1000, rate=RATE) == pytest.approx(0.25, abs=0.02)
    assert level_of(rest, hertz=440, rate=RATE) < 0.01
    # And the artifact says what is true of its bytes
    artifact = output.audio
    assert (artifact.channels, artifact.sample_rate, artifact.audio_codec) == (2, RATE, "pcm_s16le")
    assert artifact.duration.ToTimedelta() == timedelta(seconds=0.9)
    assert not artifact.HasField("frames")
    assert output.provenance.role == ARTIFACT_ROLE_PROVENANCE


def test_fades_are_straight_lines_of_each_track_and_of_the_whole(
    context: HandlerContext, tmp_path: Path
) -> None:
    steady = np.full((1, RATE), 0.5, np.float32)
    reference = context.upload(sound_file(steady, tmp_path), suffix="wav")
    output = edit_audio.run(
        EditAudioInput(
            tracks=[
                AudioTrack(audio=reference, fade_in=seconds(0.2)),
                AudioTrack(audio=reference, at=seconds(1), fade_out=seconds(0.2)),
            ],
            fade_out=seconds(0.8),
        ),
        context,
    )
    heard = seen(context.content(output.audio)).waveform[0]

    def level(at: float) -> float:
        return float(heard[round(at * RATE)])

    assert heard.shape == (2 * RATE,)
    assert level(0.1) == pytest.approx(0.25, abs=0.001)
    assert level(0.5) == pytest.approx(0.5, abs=0.001)
    assert level(1.1) == pytest.approx(0.5, abs=0.001)
    assert level(1.6) == pytest.approx(0.25, abs=0.001)
    assert level(1.9) == pytest.approx(0.5 * 0.125 * 0.5, abs=0.001)
    assert heard[-1] == 0


@pytest.mark.parametrize("wanted", [-14.0, -30.0])
def test_a_mix_is_brought_to_a_loudness(
    context: HandlerContext, low: MediaReference, wanted: float
) -> None:
    output = edit_audio.run(
        EditAudioInput(tracks=[AudioTrack(audio=low)], loudness_lufs=wanted), context
    )
    made = seen(context.content(output.audio))
    meter = LoudnessMeter(rate=RATE, channels=1)
    meter.hear(made.waveform)
    loudness = meter.loudness()
    assert loudness is not None
    assert loudness.integrated == pytest.approx(wanted, abs=0.1)
    assert output.loudness_lufs == pytest.approx(wanted, abs=0.1)


def test_a_loudness_that_would_clip_is_only_come_near_to(
    context: HandlerContext, low: MediaReference
) -> None:
    asked = EditAudioInput(tracks=[AudioTrack(audio=low)], loudness_lufs=-5, true_peak_db=-6)
    output = edit_audio.run(asked, context)
    heard = seen(context.content(output.audio)).waveform
    assert np.abs(heard).max() == pytest.approx(10 ** (-6 / 20), abs=0.01)
    assert output.loudness_lufs < -5.5


def test_silence_has_no_loudness_and_stays_silent(context: HandlerContext, tmp_path: Path) -> None:
    silence = np.zeros((1, RATE // 2), np.float32)
    reference = context.upload(sound_file(silence, tmp_path), suffix="wav")
    asked = EditAudioInput(tracks=[AudioTrack(audio=reference)], loudness_lufs=-14)
    output = edit_audio.run(asked, context)
    assert not output.HasField("loudness_lufs")
    assert not seen(context.content(output.audio)).waveform.any()


@pytest.mark.parametrize(
    ("format", "told"),
    [
        (AUDIO_FORMAT_WAV, ("pcm_s16le", "audio/wav", 22_000)),
        (AUDIO_FORMAT_MP3, ("mp3", "audio/mpeg", 22_050)),
        (AUDIO_FORMAT_OPUS, ("opus", "audio/ogg", 48_000)),
        (AUDIO_FORMAT_FLAC, ("flac", "audio/flac", 22_000)),
    ],
)
def test_every_format_is_written_at_the_nearest_rate_it_takes(
    context: HandlerContext,
    low: MediaReference,
    format: AudioFormat.ValueType,  # noqa: A002 - the contract's word
    told: tuple[str, str, int],
) -> None:
    codec, media_type, rate = told
    asked = EditAudioInput(
        tracks=[AudioTrack(audio=low)], format=format, sample_rate=22_000, channels=1
    )
    output = edit_audio.run(asked, context)
    made = seen(context.content(output.audio))
    assert (made.codecs, made.rate, made.waveform.shape[0]) == ((codec,), rate, 1)
    assert pitch_of(made.waveform, rate=rate) == pytest.approx(440, abs=2)
    assert made.seconds == pytest.approx(1.0, abs=0.08)
    assert (output.audio.media_type, output.audio.sample_rate) == (media_type, rate)
    # And the file itself says what made it
    assert context.task_id in made.metadata["comment"]


def test_the_sound_of_a_video_is_taken(context: HandlerContext, tmp_path: Path) -> None:
    content = video_file([plain((0, 0, 0))] * 10, tmp_path, waveform=tone(700))
    film = context.upload(content, suffix="mp4")
    output = edit_audio.run(EditAudioInput(tracks=[AudioTrack(audio=film)]), context)
    made = seen(context.content(output.audio))
    assert pitch_of(made.waveform, rate=made.rate) == pytest.approx(700, abs=2)


def test_the_same_input_gives_the_same_samples(
    context: HandlerContext, low: MediaReference
) -> None:
    asked = EditAudioInput(tracks=[AudioTrack(audio=low, fade_in=seconds(0.3))], loudness_lufs=-20)
    first, second = (edit_audio.run(asked, context) for _ in range(2))
    assert first.audio.sha256 == second.audio.sha256


def test_progress_counts_the_seconds_of_all_ways_through(
    context: HandlerContext, low: MediaReference
) -> None:
    asked = EditAudioInput(tracks=[AudioTrack(audio=low, at=seconds(1))], loudness_lufs=-20)
    edit_audio.run(asked, context)
    told = [report for report in context.reports if report[1]]
    assert {total for _, total, _ in told} == {4}
    assert told[-1][0] == 4
    assert sorted(current for current, _, _ in told) == [current for current, _, _ in told]
    assert {message.split(":")[0] for _, _, message in told} == {"measuring", "mixing"}


def test_a_stop_between_two_blocks_stores_nothing(tmp_path: Path) -> None:
    context = HandlerContext(tmp_path, reports=2)
    reference = context.upload(sound_file(tone(440, seconds=2), tmp_path), suffix="wav")
    with pytest.raises(TaskStopped):
        edit_audio.run(EditAudioInput(tracks=[AudioTrack(audio=reference)]), context)
    assert context.stored_keys() == []


@pytest.mark.parametrize(
    ("track", "word"),
    [
        (AudioTrack(start=seconds(5)), "ends before 5 seconds"),
        (AudioTrack(at=seconds(9), start=seconds(0)), "would play longer than 8 seconds"),
    ],
)
def test_what_cannot_be_mixed_is_refused_in_words(
    tmp_path: Path, track: AudioTrack, word: str
) -> None:
    context = HandlerContext(tmp_path, limits=MediaLimits(longest=timedelta(seconds=8)))
    track.audio.CopyFrom(context.upload(sound_file(tone(440), tmp_path), suffix="wav"))
    with pytest.raises(HandlerFailure, match=word) as refused:
        edit_audio.run(EditAudioInput(tracks=[track]), context)
    assert refused.value.reason == FAILURE_REASON_INVALID_INPUT
    assert context.stored_keys() == []


def test_a_video_without_sound_is_refused(context: HandlerContext, tmp_path: Path) -> None:
    film = context.upload(video_file([plain((0, 0, 0))] * 3, tmp_path), suffix="mp4")
    with pytest.raises(HandlerFailure, match="has no sound"):
        edit_audio.run(EditAudioInput(tracks=[AudioTrack(audio=film)]), context)
