"""The drift of running sums: measured against float64, flat for this package, drawn and stored."""

import json

import pytest

from gengram.benchmarks.speed import numerics


@pytest.fixture(scope="module")
def rows():
    return {(row["dtype"], row["form"]): row["errors"] for row in numerics.measure_drift(6144, width=8)}


def test_running_sums_drift_and_this_package_does_not(rows):
    for dtype, most in (("float32", 5e-7), ("bfloat16", 5e-3)):
        ours, sums = rows[dtype, "this package"], rows[dtype, "running sums"]
        assert len(ours) == len(sums) == 6
        assert max(ours) <= most and max(ours) < 1.2 * min(ours)
        assert sums[-1] > 3 * sums[0] and sums[0] > 2 * ours[0]


def test_the_command(rows, tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    listed = [{"dtype": dtype, "form": form, "errors": errors} for (dtype, form), errors in rows.items()]
    monkeypatch.setattr(numerics, "measure_drift", lambda length, mean: listed)
    plot, report = tmp_path / "drift.png", tmp_path / "drift.json"
    assert numerics.main(["--length", "6144", "--plot", str(plot), "--json", str(report)]) == 0
    assert json.loads(report.read_text())["rows"] == listed
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert "running sums" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        numerics.main(["--length", "10"])
