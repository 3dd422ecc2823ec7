"""The picture of a training: what was logged, whatever of it there is."""

import math

import pytest

from gengram.training.evaluation import curves
from gengram.training.evaluation.curves import draw_curves

pytest.importorskip("matplotlib")


def log(steps=6, every=2, **more):
    lines = []
    for step in range(steps):
        place = {"stage": 1 + step // 4, "step": step, "tokens": step * 1_000}
        lines.append({**place, "loss": 1.5 - step / 10, "bits_per_base": 2.1 - step / 10})
        if step % every == 0:
            bits = 2 - step / 20
            found = {"bits_per_base": bits, "bits_per_base_low": bits - 0.1, "bits_per_base_high": bits + 0.1}
            found |= {"species/human/bits_per_base": bits, "species/$odd_{/bits_per_base": bits, "loss": bits}
            found |= {"class/exon/bits_per_base": bits, "strand/gap": 0.1, "strand/difference": -0.02}
            found |= {f"memory/layer_{layer}/write_ratio": layer / 10 for layer in (2, 10)}
            found |= {f"memory/layer_{layer}/gate_open": 0.5 for layer in (2, 10)}
            found |= {f"logit_lens/layer_{layer}/kl": 12.0 - layer for layer in range(1, 13)}
            found |= {"experts/balance_mean": 1.1, "experts/balance_max": 1.3}
            lines.append({**place, **{f"eval_{name}": value for name, value in (found | more).items()}})
    return lines


@pytest.fixture
def draw(tmp_path, monkeypatch):
    """Draw a log; return the panels by title, and the picture."""
    figures, save = [], curves.save_figure
    monkeypatch.setattr(curves, "save_figure", lambda figure, path: (figures.append(figure), save(figure, path)))

    def run(lines, references=None):
        path = tmp_path / "curves.png"
        assert draw_curves(lines, path, references)
        panels = [axes for axes in figures[-1].axes if axes.get_title("left")]
        return {axes.get_title("left"): axes for axes in panels}, path.read_bytes()

    return run


def test_everything_that_is_measured_has_a_panel(draw):
    panels, picture = draw(log(), {"Markov, order 5": 1.95, "xz": 2.2})
    assert picture.startswith(b"\x89PNG")
    assert list(panels) == [
        "bits per base",
        "loss",
        "bits per base by species",
        "bits per base by class of region",
        "two readings of the same windows",
        "memory: strength of the write",
        "memory: share of gates open",
        "logit lens: KL(last layer ‖ layer)",
        "balance of experts (1: even)",
    ]
    bits = panels["bits per base"]
    lines = {line.get_label(): line for line in bits.get_lines()}
    assert lines["held out: 1.800"].get_xydata().tolist() == [[0, 2], [2_000, 1.9], [4_000, 1.8]]
    assert lines["training"].get_xydata()[-1].tolist() == pytest.approx([5_000, 1.6])
    assert set(lines["xz: 2.200"].get_ydata()) == {2.2}
    assert bits.get_ylim()[0] < 1.6 and 2.2 < bits.get_ylim()[1] < 2.7  # with room for the legend
    # Layers in their order as numbers, and a line where a stage begins.
    writes = [line.get_label() for line in panels["memory: strength of the write"].get_lines()]
    assert writes[:2] == ["layer 2: 0.2", "layer 10: 1"] and len(writes) == 3
    lens = panels["logit lens: KL(last layer ‖ layer)"].get_lines()
    assert [line.get_label() for line in lens] == ["0 tokens", "2.0k tokens", "4.0k tokens"]
    assert lens[-1].get_xydata().tolist() == [[layer, 12 - layer] for layer in range(1, 13)]


def test_what_is_not_measured_has_none(draw):
    panels, _ = draw([{"step": 3, "eval_bits_per_base": 1.9}])
    assert list(panels) == ["bits per base"]
    panels, _ = draw([{"step": 0, "loss": 1.0}, {"step": 1, "loss": math.nan}, {"step": 2, "loss": 0.02}])
    assert list(panels) == ["loss"]
    assert panels["loss"].get_yscale() == "log"
    assert panels["loss"].get_xlabel() == "step"


def test_many_species_are_not_all_drawn(draw):
    lines = [{"step": 1, **{f"eval_species/s{number}/bits_per_base": 1.9 for number in range(30)}}]
    panels, _ = draw(lines)
    assert list(panels) == ["bits per base by species (7 of 30)"]


def test_the_same_log_is_the_same_file(draw):
    lines = [{"step": 3, "eval_bits_per_base": 1.9}]
    assert draw(lines)[1] == draw(lines)[1]


def test_nothing_is_drawn_of_nothing(tmp_path):
    assert not draw_curves([], tmp_path / "curves.png")
    assert not draw_curves([{"step": 1, "train_runtime": 3.0}], tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


def test_one_line_where_matplotlib_is_not_there(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(curves, "find_spec", lambda name: None)
    assert not draw_curves(log(), tmp_path / "curves.png")
    assert capsys.readouterr().err == "no curves: matplotlib is not installed (pip install 'gengram[plots]')\n"
    assert not list(tmp_path.iterdir())
