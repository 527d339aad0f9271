"""Charts and pages: what is drawn, what is escaped, and that nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.answers import Answer
from tocsin.errors import TocsinError
from tocsin.text import has_unsafe
from tocsin.views import KINDS, MOST_POINTS, Chart, draw, thinned, world
from tocsin.views.page import cell
from tocsin.views.style import label

PAYLOADS = (
    "<script>alert(1)</script>", "</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "<a href='http://evil/'>x</a>",
    "javascript:alert(1)", "<!--", "]]>", "&lt;b&gt;", "invoice\u202egnp.exe", "\x1b[31mred", "=cmd|'/c calc'!A1", "%{x}",
    "line\u2028break",
    "<b>bold</b>", "$\\alpha$", "{{7*7}}", "\x00null",
)  # fmt: skip


class Parsed(HTMLParser):
    """The elements, attributes and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and self.scripts and not self.scripts[-1][1]:
            self.scripts[-1] = (self.scripts[-1][0], data)
        else:
            self.texts.append(data)


def frame_of(kind: str, text: str = "ann") -> pl.DataFrame:
    """The smallest frame that a kind of chart can draw, with this text wherever there is text."""
    time = pl.datetime_range(pl.datetime(2026, 1, 1), pl.datetime(2026, 1, 2), "1d", time_zone="UTC", eager=True)
    columns = {
        "label": [text, text], "low": [0.0, 1.0], "high": [1.0, 2.0], "count": [3, 4], "change": [1.0, -1.0], "verdict": ["a", "b"],
        "value": [1.0, 9.0], "observed": [3, 4], "expected": [3.5, 3.5], "time": time, "baseline": [1.0, 1.5], "limit": [3.0, 4.0],
        "fired": [False, True], "hour": [0, 1], "before": [0.5, 0.5], "after": [1.0, 0.0], "latitude": [1.0, 2.0], "longitude": [3.0, 4.0],
        "from_latitude": [1.0, 2.0], "from_longitude": [170.0, 2.0], "to_latitude": [1.0, 2.0], "to_longitude": [-170.0, 2.0],
        "mean": [1.0, 1.0], "outlier": [False, True], "exposure": [4.0, 4.0], "needed": [1, 2], "rostered": [1.0, 1.0],
        "minutes": [0.0, 9.0], "share": [1.0, 0.5],
    }  # fmt: skip
    return pl.DataFrame({name: columns[name] for name in KINDS[kind]})


def chart_of(kind: str, text: str = "ann") -> Chart:
    words = (
        {"verdicts": ("a", "b"), "band": (0.0, 1.0), "band_name": text}
        if kind == "changes"
        else {"expected": text, "baseline": text}
    )
    return Chart(kind, text, frame_of(kind, text), x=text, y=text, marks={text: 1.0}, points={text: 1.0}, words=words)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_chart_is_drawn_with_every_row_of_its_data(kind: str) -> None:
    figure = draw(chart_of(kind))
    drawn = json.loads(figure.to_json())
    assert drawn["data"]
    assert drawn["layout"]["title"]["text"] == "ann"
    if kind == "travel":
        assert any(None in trace["x"] for trace in drawn["data"]), "the way across the date line is broken there"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", PAYLOADS)
def test_no_text_of_an_event_can_act_in_a_figure(kind: str, text: str) -> None:
    drawn = draw(chart_of(kind, text)).to_dict()

    def strings(value: object) -> list[str]:
        if isinstance(value, dict):
            return [s for v in value.values() for s in strings(v)]
        if isinstance(value, list | tuple | np.ndarray):
            return [s for v in value for s in strings(v)]
        return [value] if isinstance(value, str) else []

    for told in strings(drawn):
        assert not re.search(r"<(?!extra></extra>|/extra>)", told), told
        assert not has_unsafe(told), repr(told)


@pytest.mark.parametrize("text", PAYLOADS)
def test_no_text_of_an_event_can_act_in_a_page(text: str) -> None:
    table = pl.DataFrame({text: [text], "n": [1]})
    answer = Answer(text, text, table, (text,), {text: table}, chart_of("bars", text))
    page = Parsed(answer.to_html())
    plain = pl.DataFrame({"x": ["x"], "n": [1]})
    harmless = Parsed(Answer("q", "q", plain, ("q",), {"q": plain}, chart_of("bars")).to_html())
    assert set(page.tags) <= set(harmless.tags)
    assert not {name for _, name, _ in page.attributes} - {name for _, name, _ in harmless.attributes}
    assert len(page.scripts) == 3
    assert not any(has_unsafe(t.replace("\n", "")) for t in page.texts)
    data = next(body for about, body in page.scripts if about.get("data-for") == "figure-0")
    assert json.loads(data)["data"]


def test_a_figure_of_anybodys_making_cannot_end_the_script_that_holds_it() -> None:
    import plotly.graph_objects as go

    from tocsin.views import page

    text = "</script><script>alert(1)</script>\u2028<!--"
    parsed = Parsed(page.whole(page.Section("t", "d", figure=go.Figure(layout={"title": {"text": text}}))))
    assert len(parsed.scripts) == 3
    assert json.loads(parsed.scripts[0][1])["layout"]["title"]["text"] == text
    inert = page._inert(json.dumps(text, ensure_ascii=False))  # not only where plotly does it, too
    assert not set(inert) & set("<>&\u2028")
    assert json.loads(inert) == text


def test_a_page_fetches_nothing_and_allows_only_its_own_scripts() -> None:
    page = Parsed(Answer("Who?", "Events.", frame_of("bars"), chart=chart_of("bars")).to_html())
    assert not [a for a in page.attributes if a[1] in {"src", "href", "action", "formaction", "srcset"}]
    policy = next(
        v for tag, name, v in page.attributes if tag == "meta" and name == "content" and v and "default-src" in v
    )
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    run = [body for about, body in page.scripts if about.get("type") != "application/json"]
    for body in run:
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy, "the browser would refuse this script"


def test_a_page_of_several_sections_names_each_once_and_holds_plotly_once() -> None:
    from tocsin.views import page

    drawn = Answer("Who?", "Events.", frame_of("bars"), chart=chart_of("bars")).section()
    empty = Answer("What?", "Events.", pl.DataFrame({"n": []}), empty="Nothing.").section()
    text = page.whole(drawn, empty, drawn, title="A <week>", lead=("As of now.",))
    parsed = Parsed(text)
    assert [about.get("data-for") for about, _ in parsed.scripts] == ["figure-0", "figure-2", None, None]
    assert {v for tag, name, v in parsed.attributes if tag == "a" and name == "href"} == {"#s0", "#s1", "#s2"}
    assert "<h1>A &lt;week&gt;</h1>" in text
    assert text.count("<h2>") == 3


def test_an_answer_without_data_says_so_in_words_and_holds_no_script() -> None:
    answer = Answer("Who?", "Events.", pl.DataFrame({"n": []}), chart=chart_of("bars"), empty="Nobody was there.")
    page = Parsed(answer.to_html())
    assert "script" not in page.tags
    assert "Nobody was there." in page.texts
    assert answer.to_dict()["empty"] == "Nobody was there."
    assert answer.to_dict()["chart"] is None
    assert "Nobody was there." in answer.plot().to_json()
    assert "Nobody was there." in str(answer)
    assert "Nobody was there." in answer._repr_html_()


def test_a_table_in_a_page_names_its_columns_and_says_how_many_rows_it_leaves_out() -> None:
    table = pl.DataFrame({"user_id": [f"u{i}" for i in range(300)]})
    page = Answer("Who?", "All.", table).to_html()
    assert '<th scope="col">user id</th>' in page
    assert "<caption>Answer (the first 200 of 300 rows)</caption>" in page
    assert page.count("<tr>") == 201


def test_a_notebook_is_given_heading_table_and_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    shown: list[object] = []
    module = types.ModuleType("IPython.display")
    module.HTML = lambda text: text  # type: ignore[attr-defined]
    module.display = shown.append  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    Answer("Who?", "All.", frame_of("bars"), chart=chart_of("bars"))._ipython_display_()
    assert "<h1>Who?</h1>" in str(shown[0])
    assert type(shown[1]).__name__ == "Figure"


def test_a_chart_that_cannot_be_drawn_is_refused_where_it_is_made() -> None:
    with pytest.raises(TocsinError, match='Did you mean "histogram"'):
        Chart("histogramm", "x", frame_of("bars"))
    with pytest.raises(TocsinError, match="needs the column 'low'"):
        Chart("histogram", "x", frame_of("bars"))


def test_charts_are_drawn_only_when_asked_for() -> None:
    code = (
        "import sys, polars as pl, tocsin as tc\n"
        "events = tc.read(pl.DataFrame({'timestamp': ['2026-01-01T00:00Z'], 'user_id': ['a']}))\n"
        "tc.ask.top(events, 'user_id').to_dict()\n"
        "print([m for m in sys.modules if m.partition('.')[0] == 'plotly'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@given(st.integers(0, 2**32 - 1), st.integers(MOST_POINTS - 2, 4 * MOST_POINTS))
def test_a_thinned_series_keeps_its_highest_value_and_all_that_fired(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    values = pl.Series(np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n))).fill_nan(None)
    fired = rng.random(n) < 0.01
    short = thinned(pl.DataFrame({"value": values, "fired": fired}))
    assert short.height <= MOST_POINTS + fired.sum()
    assert short["fired"].sum() == fired.sum()
    assert short["value"].max() == values.max()


@pytest.mark.needs("chromium")
@pytest.mark.parametrize("kind", KINDS)
def test_a_browser_draws_the_page_under_its_policy_and_runs_nothing_else(kind: str, tmp_path: Path) -> None:
    text = "</title><img src=x onerror=document.title='run'><script>document.title='run'</script>"
    page = tmp_path / "page.html"
    table = pl.DataFrame({text: [text]})
    Answer(text, text, table, (text,), chart=chart_of(kind, text)).to_html(page)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run([*command, profile, page.as_uri()], capture_output=True, text=True, check=True, timeout=120)
    assert 'class="main-svg"' in done.stdout, "the chart was drawn: the policy allows its script"
    assert "<title>run</title>" not in done.stdout
    assert "<img" not in done.stdout


# ---- the world


def test_the_land_lies_inside_the_map_and_holds_what_it_should() -> None:
    x, y = world.land()
    rings, ring = [], []
    for a, b in zip(x, y, strict=True):
        if a is None:
            rings.append(ring)
            ring = []
        else:
            ring.append((a, b))
    assert len(rings) > 100
    assert all(-180 <= a <= 180 and -90 <= b <= 90 for r in rings for a, b in r)
    assert all(abs(a1 - a0) <= 60 or b0 <= -80 for r in rings for (a0, b0), (a1, _) in itertools.pairwise(r)), (
        "no line across the map"
    )

    def on_land(lon: float, lat: float) -> bool:
        crossings = 0
        for r in rings:
            for (x0, y0), (x1, y1) in itertools.pairwise(r):
                crossings += (y0 > lat) != (y1 > lat) and lon < x0 + (lat - y0) / (y1 - y0) * (x1 - x0)
        return crossings % 2 == 1

    places = {
        "Kansas": (-98, 38),
        "Chukotka east of 180": (-175, 66),
        "Siberia": (100, 60),
        "Sahara": (10, 23),
        "Antarctica": (60, -80),
    }
    assert [name for name, at in places.items() if not on_land(*at)] == []
    assert [at for at in [(-30, 30), (-150, 0), (80, -30), (50, 42)] if on_land(*at)] == []


@given(*(st.floats(low, high) for low, high in ((-89, 89), (-180, 180), (-89, 89), (-180, 180))))
def test_a_great_circle_stays_on_the_map_and_never_jumps(
    lat_a: float, lon_a: float, lat_b: float, lon_b: float
) -> None:
    x, y = world.great_circle(lat_a, lon_a, lat_b, lon_b)
    assert len(x) == len(y)
    assert all(a is None or (-180 <= a <= 180) for a in x)
    assert all(b is None or (-90 <= b <= 90) for b in y)
    if len(x) > 2:
        assert all(a is None or b is None or abs(a - b) <= 180 for a, b in itertools.pairwise(x))


def test_a_limit_stays_visible_beside_a_giant() -> None:
    def axis(top: float) -> str | None:
        frame = frame_of("series").with_columns(value=pl.Series([1.0, top]))
        return draw(Chart("series", "t", frame, y="score")).layout.yaxis.type

    assert axis(9.0) is None
    assert axis(1e6) == "log"


def test_text_in_a_label_is_cut_and_shown_as_it_is() -> None:
    assert label("x" * 100) == "x" * 39 + "…"
    assert label("a & b") == "a &amp; b"
    assert cell(float("nan")) == "-"
    assert cell(True) == "yes"
