"""Which optional libraries are here, and what does each bring?"""

from functools import partial

from gengram.benchmarks.doctor.facts import Fact, Step
from gengram.benchmarks.doctor.libraries import find_version, import_library

GROUP = "optional"
# Extra, library: what it brings. Those of an extra belong together.
EXTRAS = {
    ("plots", "matplotlib"): "plots in reports, of `bench` and `quickstart`",
    ("fast", "numba"): "BPE tokenizers at the speed of numpy",
    ("probes", "xgboost"): "XGBoost as the probe of a benchmark (`evaluate --protocol genos-probe`)",
    ("search", "optuna"): "the search for settings of a training (`finetune --search`)",
    ("track", "tensorboard"): "logs of a training for TensorBoard (`--report_to tensorboard`)",
    ("track", "trackio"): "logs of a training for trackio (`--report_to trackio`)",
    ("genomics", "pysam"): "files in bgzip",
    ("onnx", "onnx"): "export to ONNX",
    ("onnx", "onnxscript"): "export to ONNX",
    ("onnx", "onnxruntime"): "running models that were exported to ONNX",
}


def list_steps() -> list[Step]:
    """A step each: an extension module that crashes takes its process with it."""
    return [
        Step(
            GROUP, name, partial(examine_extra, extra, name),
            remedy=f"pip install --force-reinstall {name}, or pip uninstall {name}",
        )
        for extra, name in EXTRAS
    ]  # fmt: skip


def examine_extra(extra: str, name: str) -> Fact:
    """A note where it is missing: nobody has to have it; a failure where it is there and broken."""
    version, use = find_version(name), EXTRAS[extra, name]
    data = {"extra": extra, "version": version, "brings": use}
    if version is None:
        return Fact(GROUP, name, f"not installed: {use}", "note", f"pip install 'gengram[{extra}]'", data)
    if (fault := import_library(name)) is not None:
        found = f"{version}, cannot be imported: {fault}"
        return Fact(GROUP, name, found, "fails", f"pip install --force-reinstall {name}, or pip uninstall {name}", data)
    return Fact(GROUP, name, f"{version}: {use}", data=data)


__all__ = ["EXTRAS", "examine_extra", "list_steps"]
