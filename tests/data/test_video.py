import ctypes
import os
import subprocess
import sys

import av
import numpy as np
import pytest
from videos import turn

from unianimate.data import VideoWriter, probe_video, read_video


def moving_square(frames: int = 8, height: int = 64, width: int = 96) -> np.ndarray:
    video = np.full((frames, height, width, 3), (20, 90, 160), dtype=np.uint8)
    for index in range(frames):
        video[index, 16:40, 4 * index : 4 * index + 24] = (230, 40, 30)
    return video


def write(path, video, fps=8.0, **options):
    with VideoWriter(path, fps, **options) as writer:
        for frame in video:
            writer.write(frame)
    return path


def write_tone(path, seconds: float = 2.0, begin: int = 0) -> None:
    """A video with sound, made with PyAV alone; its clock begins at ``begin`` seconds."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=10)
        pictures.width = pictures.height = 64
        pictures.pix_fmt = "yuv420p"
        sound = container.add_stream("aac", rate=44100, layout="mono")
        for index in range(int(10 * seconds)):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            frame.pts = index + 10 * begin
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode(None))
        for start in range(0, int(44100 * seconds), 1024):
            tone = np.sin(np.arange(start, start + 1024) * 0.05).astype(np.float32)[None]
            samples = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            samples.sample_rate, samples.pts = 44100, start + 44100 * begin
            container.mux(sound.encode(samples))
        container.mux(sound.encode(None))


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ""])
def test_what_is_written_is_read_back(tmp_path, suffix):
    video = moving_square()
    path = write(tmp_path / f"out{suffix}", video)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    if suffix == "":
        assert sorted(p.name for p in path.iterdir())[:2] == ["00000.png", "00001.png"]
        return
    read = np.stack(list(read_video(path)))
    assert read.shape == video.shape
    assert np.abs(read.astype(int) - video).mean() < 3
    info = probe_video(path)
    assert (info.width, info.height, info.fps, info.has_audio) == (96, 64, 8.0, False)


def test_a_gif_has_every_frame(tmp_path):
    from PIL import Image

    path = write(tmp_path / "out.gif", moving_square())
    with Image.open(path) as picture:
        assert picture.n_frames == 8
        assert (
            np.abs(np.asarray(picture.convert("RGB")).astype(int)[0, 0] - (20, 90, 160)).max() < 60
        )


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40)])
def test_colours_survive_and_are_tagged_bt709(tmp_path, colour):
    path = write(tmp_path / "out.mp4", np.full((3, 64, 64, 3), colour, dtype=np.uint8))
    (frame, *_) = read_video(path)
    assert np.abs(frame.astype(int) - colour).max() <= 4
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
        assert context.pix_fmt == "yuv420p"


@pytest.mark.parametrize("size", [(33, 47), (1, 1), (64, 65)])
def test_odd_sizes_are_written(tmp_path, size):
    path = write(tmp_path / "out.mp4", moving_square(3, *size))
    (frame, *_) = read_video(path)
    assert frame.shape[:2] == (size[0] + size[0] % 2, size[1] + size[1] % 2)


@pytest.mark.parametrize("fps", [8, 16, 23.976, 29.97, 60])
def test_any_frame_rate_is_kept(tmp_path, fps):
    path = write(tmp_path / "out.mp4", moving_square(4), fps)
    assert probe_video(path).fps == pytest.approx(fps, rel=1e-4)


def test_every_takes_each_nth_frame(tmp_path):
    path = write(tmp_path / "out.mp4", moving_square(9))
    assert len(list(read_video(path, every=4))) == 3
    with pytest.raises(ValueError, match="every must be at least 1"):
        list(read_video(path, every=0))


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_rotated_videos_come_upright(tmp_path, quarters):
    video = moving_square(3, 64, 96)
    turned = turn(write(tmp_path / "out.mp4", video), tmp_path / "turned.mp4", quarters)
    (frame, *_) = read_video(turned)
    upright = np.rot90(video[0], -quarters)
    assert frame.shape == upright.shape
    assert np.abs(frame.astype(int) - upright).mean() < 4
    info = probe_video(turned)
    assert (info.height, info.width) == upright.shape[:2]


def test_the_index_of_an_mp4_comes_first(tmp_path):
    data = write(tmp_path / "out.mp4", moving_square()).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    source = tmp_path / "tone.mp4"
    write_tone(source)
    data = write(tmp_path / "sound.mp4", moving_square(), audio_from=source).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_the_same_frames_make_the_same_bytes(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (12, 96, 128, 3), dtype=np.uint8)
    first, second = (write(tmp_path / f"{n}{suffix}", noise).read_bytes() for n in "ab")
    assert first == second


@pytest.fixture
def fill_new_memory():
    """Give a function that says with what the C library fills the memory that it hands out."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        pytest.skip("needs mallopt, which glibc has")

    def fill(value):
        perturb = -6
        assert libc.mallopt(perturb, value) == 1

    yield fill
    fill(0)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_the_bytes_do_not_depend_on_what_memory_held(tmp_path, suffix, fill_new_memory):
    blocks = np.random.default_rng(0).integers(0, 256, (16, 6, 4, 3), dtype=np.uint8)
    frames = blocks.repeat(8, axis=1).repeat(8, axis=2)
    made = []
    for value in (0, 1, 85, 170):
        fill_new_memory(value)
        made.append(write(tmp_path / f"{value}{suffix}", frames).read_bytes())
    assert made == made[:1] * 4


@pytest.mark.parametrize("suffix", [".mp4", ""])
def test_an_unfinished_file_lies_where_it_was_told_to(tmp_path, suffix):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    path = tmp_path / f"out{suffix}"
    with VideoWriter(path, 8, scratch=scratch) as writer:
        # more than the encoder holds back
        for frame in moving_square(80):
            writer.write(frame)
        assert [p.name for p in tmp_path.iterdir()] == ["scratch"]
        assert len(list(scratch.iterdir())) == 1
    assert path.exists()
    assert list(scratch.iterdir()) == []


def test_a_name_is_no_address(tmp_path):
    path = write(tmp_path / "10:30 http:take.mp4", moving_square(2))
    assert len(list(read_video(path))) == 2


def test_sound_that_the_container_cannot_hold_is_encoded_anew(tmp_path):
    source = tmp_path / "tone.mp4"
    write_tone(source)
    path = write(tmp_path / "out.webm", moving_square(8), audio_from=source)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == "opus"
        samples = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert len(samples) / 48000 == pytest.approx(1.0, abs=0.1)
    # the tone is still there: 0.05 radians a sample at 44100 Hz
    spectrum = np.abs(np.fft.rfft(samples))
    pitch = np.fft.rfftfreq(len(samples), 1 / 48000)[np.argmax(spectrum)]
    assert pitch == pytest.approx(0.05 * 44100 / (2 * np.pi), rel=0.02)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_sound_counts_from_the_first_picture_of_its_video(tmp_path, suffix):
    # a broadcast's clock begins anywhere
    write_tone(tmp_path / "tone.ts", begin=100)
    path = write(tmp_path / f"out{suffix}", moving_square(8), audio_from=tmp_path / "tone.ts")
    with av.open(str(path)) as container:
        times = [frame.time for frame in container.decode(audio=0)]
    assert times[0] == pytest.approx(0, abs=0.05)
    assert times[-1] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_damaged_sound_ends_and_the_pictures_stay(tmp_path, suffix, caplog):
    write_tone(tmp_path / "tone.mp4")
    whole = write(tmp_path / "whole.mp4", moving_square(8), audio_from=tmp_path / "tone.mp4")
    content = whole.read_bytes()
    source = tmp_path / "damaged.mp4"
    source.write_bytes(content[: len(content) // 2])
    path = write(tmp_path / f"out{suffix}", moving_square(8), audio_from=source)
    assert len(list(read_video(path))) == 8
    with av.open(str(path)) as container:
        assert 0 < len(list(container.decode(audio=0))) < 44
    assert "damaged.mp4: its sound is damaged and left out" in caplog.text


def test_sound_that_cannot_be_decoded_is_refused_at_once(tmp_path):
    source = tmp_path / "tone.mp4"
    write_tone(source)
    # atoms that name a codec which nobody knows
    content = source.read_bytes().replace(b"mp4a", b"none").replace(b"esds", b"none")
    source.write_bytes(content)
    with pytest.raises(ValueError, match=r"tone\.mp4: its sound cannot be decoded; leave"):
        VideoWriter(tmp_path / "out.mp4", 8, audio_from=source)


def test_sound_is_carried_over_and_cut(tmp_path):
    source = tmp_path / "tone.mp4"
    write_tone(source)
    path = write(tmp_path / "out.mp4", moving_square(8), audio_from=source)
    assert probe_video(path).has_audio
    assert len(list(read_video(path))) == 8
    with av.open(str(path)) as container:
        assert float(container.duration / av.time_base) == pytest.approx(1.0, abs=0.1)
    silent = write(tmp_path / "silent.mp4", moving_square(3))
    with pytest.raises(ValueError, match="there is no sound in it; leave the sound out"):
        VideoWriter(tmp_path / "no.mp4", 8, audio_from=silent)


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_sound_lies_beside_its_pictures(tmp_path, suffix):
    write_tone(tmp_path / "tone.mp4", seconds=30)
    frames = np.tile(moving_square(8), (30, 1, 1, 1))
    path = write(tmp_path / f"out{suffix}", frames, audio_from=tmp_path / "tone.mp4")
    latest, apart = {}, 0.0
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.dts is not None:
                latest[packet.stream.type] = float(packet.dts * packet.time_base)
                apart = max(apart, latest.get("video", 0) - latest.get("audio", 0))
    assert latest["video"] > 29 and apart < 1


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path):
    pytest.importorskip("resource")
    code = (
        "import resource, signal, sys, numpy as np\n"
        "from unianimate.data import VideoWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        "noise = np.random.default_rng(0)\n"
        "with VideoWriter(sys.argv[1], 8) as writer:\n"
        "    for _ in range(200):\n"
        "        writer.write(noise.integers(0, 255, (96, 128, 3), dtype=np.uint8))\n"
    )
    path = tmp_path / "out.mp4"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, env=environment
    )
    assert done.returncode != 0
    assert "partial" not in done.stderr.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_an_error_leaves_nothing_behind(tmp_path):
    for name in ("out.mp4", "out"):
        with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / name, 8) as writer:
            writer.write(moving_square()[0])
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_old_result_stays_until_the_new_one_is_complete(tmp_path):
    path = write(tmp_path / "out.mp4", moving_square(3))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="frames of"), VideoWriter(path, 8) as writer:
        writer.write(moving_square()[0])
        writer.write(moving_square(1, 32, 32)[0])
    assert path.read_bytes() == before


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cannot write '\.avi'; use \.mp4, \.webm, \.gif"):
        VideoWriter(tmp_path / "out.avi", 8)
    with pytest.raises(ValueError, match="fps must be positive, got 0"):
        VideoWriter(tmp_path / "out.mp4", 0)
    for fps in (float("nan"), float("inf"), -1):
        with pytest.raises(ValueError, match="fps must be positive"):
            VideoWriter(tmp_path / "out.mp4", fps)
    with pytest.raises(ValueError, match=r"fps must be at least 0\.01, got 1e-06"):
        VideoWriter(tmp_path / "out.mp4", 1e-6)
    with pytest.raises(ValueError, match="a GIF has at most 100 frames a second, got 120; ask for"):
        VideoWriter(tmp_path / "out.gif", 120)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none; make it"):
        VideoWriter(tmp_path / "none" / "out.mp4", 8)
    with pytest.raises(ValueError, match=r"only \.mp4 and \.webm can carry sound"):
        VideoWriter(tmp_path / "out.gif", 8, audio_from="x.mp4")
    with (
        pytest.raises(ValueError, match="no frames were written"),
        VideoWriter(tmp_path / "o.mp4", 8),
    ):
        pass
    with pytest.raises(ValueError, match="uint8"), VideoWriter(tmp_path / "o.mp4", 8) as writer:
        writer.write(np.zeros((4, 4, 3)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(FileExistsError, match="this folder exists"):
        VideoWriter(tmp_path / "full", 8)
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_files_that_are_no_videos_are_refused(tmp_path):
    broken = tmp_path / "broken.mp4"
    for content in (b"", b"hello", b"\x00" * 4096):
        broken.write_bytes(content)
        with pytest.raises(ValueError, match="not a video"):
            probe_video(broken)
    good = write(tmp_path / "good.mp4", moving_square(30)).read_bytes()
    broken.write_bytes(good[: len(good) // 2])
    with pytest.raises(ValueError, match=r"broken\.mp4: (damaged|this is not|the video has no)"):
        list(read_video(broken))
    with pytest.raises(FileNotFoundError, match="No such file"):
        probe_video(tmp_path / "none.mp4")
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        probe_video(tmp_path)
