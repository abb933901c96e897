import base64
import gzip
import importlib.resources
import json
import re
from html.parser import HTMLParser

import pytest

from expertree.report import Run, render_report
from expertree.report.page import Mark, apart

NAMES = {"low_light": "low-light", "jpeg": "JPEG"}
VOID = {"meta", "img", "br"}
PARTS = (
    *("created", "commit", "versions", "config", "cost", "machine", "summary", "tables", "tree"),
    *("classical", "clean", "routing", "experts", "timeline", "stages", "examples"),
    "skipped_photographs",
)


class Page(HTMLParser):
    """What a browser finds in a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: dict[str, list[str]] = {}
        self._open: list[tuple[str, str]] = []
        self.feed(html)
        assert self._open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("id") or tag))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.text.setdefault(self._open[-1][1], []).append(data)

    def content(self, element: str) -> str:
        return "".join(self.text.get(element, []))

    def values(self, name: str) -> list[str]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def test_nothing_in_the_page_points_outside_it(html: str) -> None:
    page = Page(html)
    assert {tag for tag, _, _ in page.attributes}.isdisjoint({"link", "iframe", "object", "base"})
    assert not page.values("src")
    assert all(value.startswith("#") for value in page.values("href"))
    style = page.content("style")
    assert "url(" not in style
    assert "@import" not in style
    assert set(re.findall(r"[a-z]{2,5}://[^\"'\s]*", html)) == {"http://www.w3.org/2000/svg"}


def test_the_page_forbids_the_browser_to_fetch_anything(html: str) -> None:
    (policy,) = [v for v in Page(html).values("content") if "default-src" in v]
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert "connect-src" not in policy


def test_links_lead_somewhere_and_names_are_unique(html: str) -> None:
    page = Page(html)
    names = page.values("id")
    assert len(names) == len(set(names))
    assert {value[1:] for value in page.values("href")} <= set(names)
    assert set(page.values("aria-controls")) <= set(names)


def test_every_image_of_the_examples_is_inside_once(html: str, images: dict[str, bytes]) -> None:
    page = Page(html)
    inside = json.loads(page.content("images"))
    assert sorted(map(base64.b64decode, inside.values())) == sorted(set(images.values()))
    for example in json.loads(page.content("data"))["examples"]:
        for kind, name in example["images"].items():
            task = {v: k for k, v in NAMES.items()}.get(example["task"], example["task"])
            place = "in" if example["place"].startswith("in") else "out"
            assert base64.b64decode(inside[name]) == images[f"{place}-{task}-{kind}"]


def test_images_that_no_example_shows_are_left_out(run: Run, images: dict[str, bytes]) -> None:
    html = render_report(run, images | {"unused": b"x"})["report.html"].decode()
    assert "unused" not in json.loads(Page(html).content("images"))


def test_plotly_is_inside_once_and_whole(html: str) -> None:
    packed = base64.b64decode(Page(html).content("plotly"))
    source = importlib.resources.files("plotly").joinpath("package_data/plotly.min.js").read_bytes()
    assert gzip.decompress(packed) == source


def test_a_page_without_charts_leaves_plotly_out() -> None:
    html = render_report({"title": "stopped before training"}, {})["report.html"].decode()
    assert len(html) < 50_000
    assert "stopped before training" in html


@pytest.mark.parametrize("part", PARTS)
def test_each_part_may_be_missing(run: Run, images: dict[str, bytes], part: str) -> None:
    del run[part]
    Page(render_report(run, images)["report.html"].decode())


def test_text_of_a_run_is_never_markup(run: Run, images: dict[str, bytes]) -> None:
    attack = "</script><script>alert(1)</script>"
    run["title"] = attack
    run["examples"][0]["caption"] = attack
    run["tree"]["nodes"][0]["dominant"] = [(attack, 1.0)]
    run["skipped_photographs"] = [(attack, attack)]
    run["config"] = {attack: attack}
    html = render_report(run, images)["report.html"].decode()
    assert "<script>alert" not in html
    data = json.loads(Page(html).content("data"))
    assert data["examples"][0]["caption"] == attack


def test_the_headline_is_the_gain_over_the_better_of_input_and_one_network(html: str) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html.split("</header>", maxsplit=1)[0]))
    assert "+2.05 dB" in text
    assert (
        "22.86 → 24.91 dB PSNR over one network, samples of the whole tree, mean over single "
        "degradations; +0.55 dB on mixed ones; 3.0 % of images harmed"
    ) in text
    assert "+1.48 dB" in text


def test_a_gain_over_the_input_says_so(run: Run, images: dict[str, bytes]) -> None:
    run["summary"]["gain_over"]["in"] = "input"
    html = render_report(run, images)["report.html"].decode()
    assert "19.61" in html.split("</header>", maxsplit=1)[0]
    assert "dB PSNR over the input, mean over single degradations" in html


def test_a_loss_is_shown_as_a_loss(run: Run, images: dict[str, bytes]) -> None:
    run["summary"]["psnr_rgb"]["in"]["routed"] = 21.0
    html = render_report(run, images)["report.html"].decode()
    assert re.search(r'class="gain bad">−1.86', html)  # noqa: RUF001 - a true minus


def test_every_number_of_the_tables_is_on_the_page(run: Run, html: str) -> None:
    for table in run["tables"]:
        for row in table["rows"]:
            for psnr, ssim in zip(row["psnr_rgb"], row["ssim"], strict=True):
                assert f">{psnr:.2f}<small>{ssim:.4f}</small>" in html
            for psnr in row["quartiles_db"]:
                assert f"<td>{psnr:.2f}</td>".replace("-", "−") in html  # noqa: RUF001


def test_the_share_of_harmed_images_stands_below_and_is_marked_where_it_is_large(
    html: str,
) -> None:
    assert '<small class="harmed">2.0 %</small>' in html
    assert '<small class="harmed harmful">14 %</small>' in html


def test_what_is_left_as_it_is_stands_beside_the_tree_and_clean_images_with_the_results(
    html: str,
) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))
    assert "no expert runs: 2.3 % of the images in distribution, 2.3 % of the images out of" in text
    assert "Of 80 clean images 95 % are left as they are; the others come out at 41.07 dB" in text


def test_the_classical_methods_are_named(html: str) -> None:
    assert re.search(r'<th scope="row">low-light</th><td>light by gamma \(gamma 1.5\)</td>', html)


def test_skipped_photographs_are_named_with_the_reason(html: str) -> None:
    assert "broken.jpg" in html
    assert "truncated: the file ends after 1,204 of 88,120 bytes" in html


def test_the_configuration_is_listed_by_dotted_key(html: str) -> None:
    assert "experts.backbone.name" in html
    assert "router.objective" in html


def test_words_of_neighbours_on_one_side_of_the_scale_stand_apart() -> None:
    places = (0.0, 50.0, 92.0, 96.0, 100.0)
    marks = [Mark(method=str(n), name="", value="", left_percent=p) for n, p in enumerate(places)]
    assert [mark.is_far for mark in apart(marks)] == [False, False, False, False, True]
    close = [Mark(method=str(n), name="", value="", left_percent=n) for n in range(5)]
    assert [mark.is_far for mark in apart(close)] == [False, False, True, True, False]
