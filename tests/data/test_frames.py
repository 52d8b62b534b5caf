import numpy as np
import pytest
from PIL import Image
from videos import add_hidden, cut_start, moving_pattern, turn, write_encoded

from unianimate.data import VideoWriter, read_video
from unianimate.data.frames import VideoFrames, open_frames
from unianimate.pose.listing import list_pictures

VIDEO = moving_pattern(50)
OPEN_GOP = {"x264-params": "open-gop=1:keyint=10:scenecut=0", "bf": "3"}


def frame_times() -> list[int]:
    return np.cumsum(np.random.default_rng(3).integers(1, 5, len(VIDEO))).tolist()


def x264(tmp_path, **options):
    return write_encoded(tmp_path / "video.mp4", VIDEO, g="12", bf="3", **options)


MAKERS = {
    "B-frames": x264,
    "open GOP": lambda path: write_encoded(path / "open.mp4", VIDEO, **OPEN_GOP),
    "open GOP, Matroska": lambda path: write_encoded(path / "open.mkv", VIDEO, **OPEN_GOP),
    "MPEG-TS": lambda path: write_encoded(path / "video.ts", VIDEO, g="12", bf="3"),
    "variable rate": lambda path: x264(path, rate=100, times=frame_times()),
    "VP9": lambda path: write_encoded(path / "video.webm", VIDEO, "libvpx-vp9", g="12", b="200k"),
    "VP8": lambda path: write_encoded(path / "video.webm", VIDEO, "libvpx", g="12", b="200k"),
    "VP8, hidden frame": lambda path: add_hidden(MAKERS["VP8"](path), path / "hidden.webm"),
    "AVI": lambda path: write_encoded(path / "video.avi", VIDEO, "mpeg4", g="12", bf="2"),
    "GIF": lambda path: write_encoded(path / "video.gif", VIDEO[:12], "gif", pixels="rgb8"),
    "turned": lambda path: turn(x264(path), path / "turned.mp4"),
    "edit list": lambda path: cut_start(x264(path), path / "cut.mp4", 0.68),
    "edit list, open GOP": lambda path: cut_start(MAKERS["open GOP"](path), path / "cut.mp4", 0.68),
}


@pytest.mark.parametrize("name", MAKERS)
def test_any_frames_equal_those_of_decoding_all(tmp_path, name):
    path = MAKERS[name](tmp_path)
    wanted = list(read_video(path))
    frames = open_frames(path)
    assert len(frames) == len(wanted)
    random = np.random.default_rng(0)
    for _ in range(6):
        numbers = random.integers(-len(wanted), len(wanted), 4).tolist()
        for number, frame in zip(numbers, frames.read(numbers), strict=True):
            np.testing.assert_array_equal(np.asarray(frame), wanted[number])
    frames.close()


def test_the_start_that_an_edit_list_leaves_out_has_no_numbers(tmp_path):
    whole = x264(tmp_path)
    cut = open_frames(cut_start(whole, tmp_path / "cut.mp4", 0.68))
    assert len(cut) == len(VIDEO) - 17
    np.testing.assert_array_equal(cut.read([0])[0], list(read_video(whole))[17])


def test_a_frame_is_found_without_decoding_from_the_start(tmp_path, monkeypatch):
    frames = VideoFrames(x264(tmp_path))
    monkeypatch.setattr(frames, "_decode_all", None)
    fitted = []

    def fit(frame):
        fitted.append(frame)
        return frame.resize((4, 4))

    read = frames.read([40, 41, 40], fit)
    assert [frame.size for frame in read] == [(4, 4)] * 3
    assert len(fitted) == 2 and read[0] is read[2]


def test_frames_beyond_the_ends_are_refused(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "pictures" / "0.png")
    for frames in (open_frames(x264(tmp_path)), open_frames(tmp_path / "pictures")):
        for number in (len(frames), -len(frames) - 1):
            with pytest.raises(IndexError):
                frames.read([number])


def test_a_folder_of_pictures_is_a_video_in_the_order_of_numbers(tmp_path):
    names = ("1.png", "2.jpg", "10.PNG", "a.webp")
    for index, name in enumerate(reversed(names)):
        Image.new("RGB", (8, 6), (len(names) - 1 - index, 0, 0)).save(tmp_path / name)
    for name in (".hidden.png", "notes.txt"):
        (tmp_path / name).write_text("no picture")
    assert tuple(path.name for path in list_pictures(tmp_path)) == names
    frames = open_frames(tmp_path)
    assert len(frames) == 4
    assert [frame.getpixel((0, 0))[0] for frame in frames.read([2, 0, 2])] == [2, 0, 2]
    assert frames.read([1], lambda frame: frame.resize((2, 2)))[0].size == (2, 2)
    frames.close()


def test_damaged_and_empty_videos_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: there are no pictures in this folder"):
        open_frames(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"No such file.*none\.mp4"):
        open_frames(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mp4: this is not a video that can be read"):
        open_frames(tmp_path / "text.mp4")


def test_a_video_that_was_cut_off_is_damaged(tmp_path):
    path = tmp_path / "video.mp4"
    with VideoWriter(path, 25) as writer:
        for frame in VIDEO:
            writer.write(frame)
    data = path.read_bytes()
    for part in (0.7, 0.9):
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(ValueError, match=r"video\.mp4: damaged"):
            open_frames(path)


def test_what_is_left_of_a_damaged_stream_is_what_decoding_all_gives(tmp_path):
    path = write_encoded(tmp_path / "video.mkv", VIDEO, g="12", bf="3")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    left = list(read_video(path))
    frames = open_frames(path)
    assert 0 < len(frames) == len(left) < len(VIDEO)
    np.testing.assert_array_equal(np.stack(frames.read(range(len(frames)))), left)


def test_a_damaged_picture_is_named(tmp_path):
    (tmp_path / "0.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"0\.png: this is not a picture that can be read"):
        open_frames(tmp_path).read([0])
