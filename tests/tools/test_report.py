import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from lightning_cv.tools.report import Figure, Headline, Report, Section, Table, render, write_report

PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


class Checker(HTMLParser):
    """Collects tags and notices those that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def checked(report):
    page = render(report)
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    return page, checker


def full_report():
    results = Table("Results", ["beta", "kl", "command"], [[1, 12.34567, "fit --x 1"], [16, None, "fit --x <y>"]],
                    code=["command"])  # fmt: skip
    figures = [Figure("Boxes", PICTURE, "truth beside <predicted>"), Figure("Wide", PICTURE, wide=True)]
    return Report("Demo & more", "seconds: 9", [Headline("0.75", "mAP")], [Section("One", "text", figures, [results])])


def test_the_page_holds_everything_and_asks_nothing_of_the_network():
    page, checker = checked(full_report())
    assert page.startswith("<!doctype html>")
    assert "script" not in checker.tags
    assert "link" not in checker.tags
    assert all(address.startswith("data:image/") for address in checker.addresses)
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    assert "@import" not in page
    assert checker.tags.count("img") == 2


def test_pictures_come_back_pixel_by_pixel():
    page, _ = checked(full_report())
    content = base64.b64decode(re.search(r"data:image/png;base64,([^\"]+)", page)[1])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), PICTURE)


def test_text_is_escaped_and_figures_are_rounded():
    page, _ = checked(full_report())
    assert "Demo &amp; more" in page
    assert "truth beside &lt;predicted&gt;" in page
    assert "<code>fit --x &lt;y&gt;</code>" in page
    assert "<td class=number>12.35</td>" in page
    assert "<td class=number></td>" in page
    assert "<th class=number>beta</th>" in page
    assert "<th class=text>command</th>" in page


def test_files_keep_their_kind_and_others_are_refused(tmp_path):
    (tmp_path / "curve.svg").write_text("<svg/>")
    _, checker = checked(Report("r", sections=[Section("s", figures=[Figure("f", tmp_path / "curve.svg")])]))
    assert checker.addresses == ["data:image/svg+xml;base64," + base64.b64encode(b"<svg/>").decode()]
    with pytest.raises(ValueError, match=r"curve\.pdf: a report holds png"):
        render(Report("r", sections=[Section("s", figures=[Figure("f", tmp_path / "curve.pdf")])]))


def test_an_empty_report_and_a_failed_one_that_leaves_the_old(tmp_path):
    path = write_report(Report("empty"), tmp_path / "deep" / "report.html")
    assert "<h1>empty</h1>" in path.read_text()
    with pytest.raises(FileNotFoundError):
        write_report(Report("r", sections=[Section("s", figures=[Figure("f", tmp_path / "no.png")])]), path)
    assert "<h1>empty</h1>" in path.read_text()
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
