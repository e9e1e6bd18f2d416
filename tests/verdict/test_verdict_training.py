"""The report's parts on training: curves, answers before and after, what was tried."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_run import write_sample_run

from luthier.verdict.curves import curves_of
from luthier.verdict.report import build_report
from luthier.verdict.samples import panel_of


def decay(steps: int, start: float = 4.0, end: float = 0.4) -> list[list[float]]:
    return [[i + 1, start * (end / start) ** (i / max(1, steps - 1))] for i in range(steps)]


def ys(svg: str, kind: str) -> list[float]:
    (points,) = re.findall(rf'<polyline class="{kind}" points="([^"]*)"', svg)
    return [float(point.split(",")[1]) for point in points.split()]


class TestCurves:
    def test_a_falling_loss_goes_down_the_page_and_fills_the_width(self) -> None:
        found = curves_of({"curve": decay(10)}, "a")
        assert found is not None
        heights = ys(found.loss, "trained")
        assert heights == sorted(heights)
        (points,) = re.findall(r'class="trained" points="([^"]*)"', found.loss)
        assert points.split()[0].startswith("0.0,")
        assert points.split()[-1].startswith("1000.0,")
        assert found.loss_words == "Training loss 4 → 0.400 over 10 steps"
        assert not found.smoothed
        assert not found.rate

    def test_the_moving_average_is_the_mean_of_what_is_near(self) -> None:
        noisy = [[i + 1, 1.0 if i % 2 else 2.0] for i in range(120)]
        found = curves_of({"curve": noisy}, "a")
        assert found is not None
        assert found.smoothed
        # seven steps are 3 or 4 twos: the mean goes between 10/7 and 11/7
        inner = ys(found.loss, "trained")[3:-3]
        steps = ys(found.loss, "steps")  # what lies beyond the scale of the mean stands at its edge
        assert len({round(height) for height in inner}) == 2
        assert min(steps) < min(inner) < max(inner) < max(steps)
        assert found.loss_words.startswith("Training loss 1.50 → 1.50")

    def test_validation_and_the_step_that_was_kept(self) -> None:
        record = {
            "curve": decay(30),
            "validation": [[10, 2.0], [20, 1.0], [30, 1.5]],
            "best_step": 20,
        }
        found = curves_of(record, "a")
        assert found is not None
        assert found.validated
        assert found.loss.count("validated-dot") == 3
        heights = ys(found.loss, "validated")
        assert max(heights) == heights[1]  # the lowest loss is furthest down
        assert "validation loss lowest at 1, after step 20" in found.loss_words
        assert "the weights of step 20 were kept" in found.loss_words
        assert 'class="kept" x1="655.2"' in found.loss  # 1000 * 19 / 29

    def test_far_apart_losses_are_told_apart_on_a_logarithmic_scale(self) -> None:
        found = curves_of({"curve": decay(15, 10.0, 0.01)}, "a")
        assert found is not None
        assert found.logarithmic
        heights = ys(found.loss, "trained")
        # a constant factor from step to step is a straight line
        steps = [b - a for a, b in itertools.pairwise(heights)]
        assert max(steps) - min(steps) < 0.3
        near = curves_of({"curve": decay(15, 2.0, 1.0)}, "a")
        assert near is not None
        assert not near.logarithmic

    def test_the_rate(self) -> None:
        rates = [[1, 1e-4], [2, 1e-3], [10, 0.0]]
        found = curves_of({"curve": decay(10), "rates": rates}, "a")
        assert found is not None
        assert found.rate_words == "Learning rate, 1.0e-03 at its highest, after step 2"
        assert min(ys(found.rate, "rate")) == ys(found.rate, "rate")[1]

    @pytest.mark.parametrize("curve", [None, [], [[1, 2.0]], "x", [[1, None], [2, "a"]]])
    def test_nothing_to_draw(self, curve: Any) -> None:
        assert curves_of({"curve": curve}, "a") is None

    def test_ten_thousand_steps_stay_small(self) -> None:
        found = curves_of({"curve": decay(10_000), "rates": decay(10_000)}, "a")
        assert found is not None
        assert len(found.loss) + len(found.rate) < 20_000

    @settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 10**6), st.floats(-1e6, 1e6)), min_size=2, max_size=60),
        st.lists(st.tuples(st.integers(0, 10**6), st.floats()), max_size=10),
        st.one_of(st.none(), st.integers(-5, 10**6)),
    )
    def test_any_numbers_make_a_drawing_inside_its_box(
        self, curve: Any, validation: Any, best: Any
    ) -> None:
        record = {
            "curve": [list(one) for one in curve],
            "validation": [list(one) for one in validation],
            "rates": [list(one) for one in validation],
            "best_step": best,
        }
        found = curves_of(record, "a")
        assert found is not None
        for drawing in (found.loss, found.rate):
            assert "nan" not in drawing
            assert "inf" not in drawing
        for height in ys(found.loss, "trained"):
            assert 0 <= height <= 190


HELD = {
    "split": "validation",
    "rows": [
        {
            "input": "What is <b>it</b>?",
            "reference": "entity",
            "before": "It is a question of",
            "before_cut": True,
            "after": "entity",
            "after_cut": False,
            "changed": True,
        },
        {
            "input": "Who?",
            "reference": "human",
            "before": "human",
            "after": "human",
            "changed": False,
        },
    ],
    "changed": 1,
    "weights": {
        "relative": 0.0068,
        "largest": [{"tensor": "model.layers.0.q_proj.weight", "relative": 0.0273}],
    },
    "note": "",
    "warning": "",
}


class TestPanel:
    def test_what_it_says(self) -> None:
        panel = panel_of(HELD)
        assert panel is not None
        assert panel.summary.startswith("Training changed 1 of 2")
        assert "(50\u00a0%)" in panel.summary
        assert panel.pairs[0].before == "It is a question of …"
        assert [pair.state for pair in panel.pairs] == ["changed", "same"]
        assert "0.68\u00a0%" in panel.weights
        assert panel.tensors == (("model.layers.0.q_proj.weight", "2.73\u00a0%"),)

    def test_nothing_was_asked(self) -> None:
        assert panel_of({}) is None
        panel = panel_of({"rows": [], "note": "This objective writes no answers."})
        assert panel is not None
        assert (panel.summary, panel.note) == ("", "This objective writes no answers.")


class TestPage:
    def page(self, folder: Path, samples: Any, **record: Any) -> str:
        run = write_sample_run(folder)
        path = run / "arms" / "lora" / "arm.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **record}))
        (path.parent / "samples.json").write_text(
            samples if isinstance(samples, str) else json.dumps(samples)
        )
        return build_report(run).read_text(encoding="utf-8")

    def test_a_panel_with_its_curves(self, tmp_path: Path) -> None:
        page = self.page(tmp_path, HELD, curve=decay(40), validation=[[20, 1.0], [40, 0.8]])
        assert "Before and after training" in page
        assert "What is &lt;b&gt;it&lt;/b&gt;?" in page
        assert "(unchanged)" in page
        assert page.count('class="validated-dot"') == 2
        assert "moving average" in page

    def test_training_without_effect_stands_out(self, tmp_path: Path) -> None:
        warning = "Training changed none of 5 sampled answers."
        page = self.page(tmp_path, {**HELD, "warning": warning})
        assert f'<p class="notice">{warning}</p>' in page

    def test_settings_that_were_tried_are_listed_with_why_they_ended(self, tmp_path: Path) -> None:
        choice = {
            "what": "settings of training",
            "options": [
                {"value": "learning rate 0.001 (the default)", "score": 0.8, "note": ""},
                {"value": "learning rate 0.1", "score": None, "note": "validation loss 9"},
            ],
            "chosen": "learning rate 0.001 (the default)",
            "why": "the highest score",
        }
        page = self.page(tmp_path, HELD, choices=[choice])
        assert '<small class="quiet">validation loss 9</small>' in page
        assert re.search(r"learning rate 0.001 \(the default\)</td>.{0,60}80.0", page)

    def test_a_broken_file_is_named(self, tmp_path: Path) -> None:
        page = self.page(tmp_path, "{")
        assert "arms/lora/samples.json cannot be read" in page
