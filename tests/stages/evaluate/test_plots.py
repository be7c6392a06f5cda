"""Pictures of the report: every axis has ink, no text is cut, no legend lies over data."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from ghosttrack.common.formats.final_report import FinalReport
from ghosttrack.stages.evaluate.plots import DRAWN
from tests.stages.report.synthetic import final_report, generations, scores

LONG = "log-probability of the answer after other worked examples"


@pytest.fixture(scope="module")
def report():
    """Of random numbers, with names as long as the longest."""
    rng = np.random.default_rng(0)
    records = generations(rng, 40, 4)
    content = final_report(rng, "made-up", records, scores(rng, records), 30)
    content["main_methods"] = ["tracks", "logprob_min", "answer_length", "tracks+logits"]
    for card in content["methods"][:3]:
        card["title"] = f"{LONG}, {card['title']}"
    for split in content["splits"]:
        for kind, curves in split["curves"].items():
            of = content["main_methods"][: 2 if kind == "reliability" else 4]
            split["curves"][kind] = [{**curves[0], "method": method} for method in of]
    return FinalReport.model_validate(content)


@pytest.mark.parametrize("name", [file.name for file in DRAWN])
def test_every_axis_has_ink_text_is_whole_and_legends_cover_no_data(report, name, monkeypatch):
    canvas = next(draw for file, draw in DRAWN.items() if file.name == name)(report)
    FigureCanvasAgg(canvas).draw()
    renderer = canvas.canvas.get_renderer()
    width, height = canvas.canvas.get_width_height()
    for axes in canvas.axes:
        assert axes.lines or axes.patches, f"{name}: an axis without ink"
        assert axes.get_window_extent(renderer).width > 0.1 * width
        assert axes.get_legend() is None
        for legend in canvas.legends:
            assert not legend.get_window_extent(renderer).overlaps(axes.get_window_extent(renderer))
    drawn: list[Text] = []
    monkeypatch.setattr(Text, "draw", lambda text, *_: drawn.append(text))
    canvas.draw(renderer)
    for text in drawn:
        if text.get_text().strip():
            box = text.get_window_extent(renderer)
            assert min(box.x0, box.y0) > -1, text
            assert box.x1 < width + 1, text
            assert box.y1 < height + 1, text
