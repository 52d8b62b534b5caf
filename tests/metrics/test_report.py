import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from unianimate.data import Puppet
from unianimate.metrics import METRICS, PROTOCOLS, PUBLISHED, evaluate_videos
from unianimate.metrics.page import side_by_side
from unianimate.metrics.report import published_table, to_json, to_text, write_report


@pytest.fixture(scope="module")
def videos():
    truth = [Puppet(i, held_out=True).render(range(0, 9, 3), 48, 32)[0] for i in range(14)]
    copies = [np.repeat(video[:1], len(video), axis=0) for video in truth]
    return copies, truth


@pytest.fixture(scope="module")
def done(videos):
    return evaluate_videos(*videos, names=[f"<{i}>" for i in range(14)], samples=50)


def test_the_table_has_every_measure_and_every_reason(done):
    text = to_text(done)
    for name, metric in METRICS.items():
        assert metric.label in text, name
    assert f"{done['psnr'].mean:.2f} " in text
    assert "42 frames" in text
    assert "28 pairs of frames" in text
    assert "an I3D was not given" in text
    assert "Published" not in text


def test_published_rows_are_marked_and_as_printed(done):
    rows = published_table(done, PUBLISHED["tiktok"])
    assert rows[1][0] == "this evaluation"
    heading = rows[0]
    ours = dict(zip(heading, rows[1]))
    assert ours["PSNR ↑"] == f"{done['psnr'].mean:.2f}"
    assert ours["FVD ↓"] == "-"
    paper = dict(zip(heading, next(row for row in rows if row[0] == "UniAnimate (published)")))
    assert paper == {
        "": "UniAnimate (published)",
        "L1 (DisCo) ↓": "2.66",
        "PSNR ↑": "20.58",
        "PSNR (DisCo, legacy) ↑": "30.77",
        "SSIM (DisCo) ↑": "0.811",
        "LPIPS (DisCo) ↓": "0.231",
        "FVD ↓": "148.06",
    }
    assert "Not computed here" in to_text(done, PUBLISHED["tiktok"])
    assert all("published" in row[0] for row in rows[2:])


@pytest.mark.parametrize("name", PROTOCOLS)
def test_published_figures_are_of_known_metrics(name):
    methods = [row.method for row in PUBLISHED[name]]
    assert "UniAnimate" in methods
    assert all(set(row.values) <= set(METRICS) for row in PUBLISHED[name])


def test_json_is_plain_and_whole(done):
    data = json.loads(json.dumps(to_json(done, PUBLISHED["fashion"]), allow_nan=False))
    assert data["measures"]["psnr"]["mean"] == done["psnr"].mean
    assert len(data["measures"]["psnr"]["per_video"]) == 14
    assert data["videos"][0] == {"name": "<0>", "frames": 3, "width": 32, "height": 48}
    assert set(data["measures"]) | set(data["missing"]) == set(METRICS)
    assert data["published"][1]["values"]["fvd"] == 68.1


class Page(HTMLParser):
    """Checks that tags close in order, and collects pictures and links."""

    def __init__(self):
        super().__init__()
        self.open, self.pictures, self.links = [], [], []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.pictures.append(dict(attributes))
        elif tag != "meta":
            self.open.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_is_a_table_a_json_file_and_a_page_of_frames(done, videos, tmp_path):
    write_report(tmp_path / "report", done, *videos, PUBLISHED["tiktok"])
    folder = tmp_path / "report"
    assert sorted(p.name for p in folder.iterdir()) == [
        "evaluation.json",
        "index.html",
        "table.md",
    ]
    text = (folder / "index.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert all(link.startswith("data:image/jpeg;base64,") for link in page.links)
    # of fourteen videos: four worst, four in the middle, four best
    order = np.argsort(done["psnr"].per_video)
    shown = [int(picture["alt"].strip("<>")) for picture in page.pictures]
    assert shown == [*order[:4], *order[5:9], *order[-4:]]
    content = base64.b64decode(page.pictures[0]["src"].split(",")[1])
    assert Image.open(io.BytesIO(content)).size == (3 * 107, 3 * 160)
    assert not re.search(r"<\d+>", text), "names are escaped"


def test_side_by_side_shows_truth_generated_and_difference(videos):
    copies, truth = videos
    picture = side_by_side(copies[0], truth[0])
    assert picture.shape == (480, 321, 3)
    np.testing.assert_array_equal(picture[:160, :107], picture[160:320, :107])
    assert picture[320:, :107].max() == 0
    assert picture[320:, 107:].max() > 0


def test_a_report_is_written_whole_or_not_at_all(done, videos, tmp_path):
    copies, truth = videos
    with pytest.raises(IndexError):
        write_report(tmp_path / "report", done, copies[:2], truth)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    write_report(tmp_path / "empty", done, copies, truth)
    with pytest.raises(FileExistsError, match="name another folder"):
        write_report(tmp_path / "empty", done, copies, truth)
