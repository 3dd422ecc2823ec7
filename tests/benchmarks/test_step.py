"""`gengram bench --step`: three models over the same weights, one report; what fails is told and the others go on."""

import json

import pytest
import torch
from transformers import LlamaConfig

from gengram import GengramConfig
from gengram.benchmarks.command import bench
from gengram.benchmarks.speed import step as module
from gengram.benchmarks.speed.step import PAPER, TrainingStep, choose_sizes, make_config
from gengram.errors import InputError
from gengram.gengram.configuration_gengram import SIZES
from gengram.gengram.fallback import KernelError

CPU = torch.device("cpu")


def make_small() -> GengramConfig:
    backbone = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, vocab_size=16
    )
    return GengramConfig(backbone_config=backbone, memory_layers=[1], memory_dim=8)


@pytest.fixture
def small(monkeypatch):
    """Tiny models, nothing is compiled, the machine is not measured."""
    monkeypatch.setattr(module, "make_config", lambda size, scale: make_small())
    monkeypatch.setattr(torch, "compile", lambda model, **options: model)
    monkeypatch.setattr(module, "measure_products", lambda *_: (1e11, 2048))


def measure(**options) -> list[dict]:
    report = module.run_steps(["0.3b-dense-gqa"], CPU, torch.float32, length=30, rounds=2, **options)
    return report["steps"][0]["cells"]


def test_three_models_have_the_same_weights_and_each_its_memory():
    step = TrainingStep(make_small(), 2, 60, CPU, torch.float64)
    ours, released, none = (step.models[name] for name in ("ours", "released", "none"))
    assert all(a is b for a, b in zip(ours.parameters(), released.parameters()))
    named = dict(ours.named_parameters())
    assert all(named[name] is weight for name, weight in none.named_parameters())
    assert not any(
        weight.is_meta for model in step.models.values() for weight in (*model.parameters(), *model.buffers())
    )
    with torch.no_grad():
        logits = {name: model(input_ids=step.ids, use_cache=False).logits for name, model in step.models.items()}
    torch.testing.assert_close(logits["released"], logits["ours"], rtol=0, atol=1e-9)
    assert (logits["none"] - logits["ours"]).abs().max() > 1e-3


def test_a_step_trains_what_the_model_has():
    step = TrainingStep(make_small(), 1, 60, CPU, torch.float32)
    table = step.models["ours"].model.memory["1"].embeddings[0].weight
    before, head = table.detach().clone(), step.models["ours"].get_output_embeddings().weight.detach().clone()
    step.run(step.models["none"])
    assert torch.equal(table, before) and not torch.equal(step.models["ours"].get_output_embeddings().weight, head)
    resting = step.count_resting_bytes("none")
    assert 12 <= resting / step.count_parameters("none") < 12.5  # the weight and two moments, and counts of steps
    step.run(step.models["ours"])
    assert not torch.equal(table, before) and step.count_resting_bytes("none") == resting
    step.rest()
    assert all(weight.grad is None for weight in step.models["ours"].parameters())


def test_the_report(small, tmp_path, capsys):
    path, picture = tmp_path / "step.json", tmp_path / "step.png"
    words = ["--step", "0.3b-dense-gqa", "1.2b-moe-gqa", "--length", "30", "--rounds", "2"]
    assert bench([*words, "--json", str(path), "--plot", str(picture)]) == 0
    report = json.loads(path.read_text())
    assert [one["size"] for one in report["steps"]] == ["0.3b-dense-gqa", "1.2b-moe-gqa"]
    assert (report["batch"], report["length"], report["dtype"]) == (1, 30, "float32")
    for one in report["steps"]:
        places = [(cell["memory"], cell["mode"]) for cell in one["cells"]]
        assert places == [(m, mode) for mode in ("eager", "compiled") for m in ("none", "ours", "released")]
        for cell in one["cells"]:
            assert cell["bases_per_s"] == pytest.approx(30 / cell["seconds"]) and cell["rounds"] == 2
            assert cell["mfu"] == pytest.approx(one["flop"] / cell["seconds"] / 1e11)
            assert ("share" in cell) == (cell["memory"] != "none")
            if "share" in cell:
                assert cell["low"] <= cell["share"] <= cell["high"] < 1
    table = capsys.readouterr().out
    assert "1 x 30 bases, float32" in table and "measured: a product" in table and table.count("released") == 4
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_cell_that_does_not_fit_says_so_and_the_others_go_on(small, monkeypatch):
    run = TrainingStep.run

    def fail(step, model):
        if model is step.models["released"]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        run(step, model)

    monkeypatch.setattr(TrainingStep, "run", fail)
    cells = measure(compiled=False)
    assert [cell.get("skipped") for cell in cells] == [None, None, "does not fit in memory"]
    assert "share" in cells[1]


def test_a_kernel_that_does_not_run_is_no_cell(small, monkeypatch):
    def fail(step, model):
        raise KernelError("no kernel")

    monkeypatch.setattr(TrainingStep, "run", fail)
    with pytest.raises(KernelError):
        measure(compiled=False)


def test_without_its_plain_twin_a_cell_has_no_share(small, monkeypatch):
    run = TrainingStep.run

    def fail(step, model):
        if model is step.models["none"]:
            raise RuntimeError("no kernel\nand a long story")
        run(step, model)

    monkeypatch.setattr(TrainingStep, "run", fail)
    cells = measure(compiled=False)
    assert cells[0]["skipped"] == "RuntimeError: no kernel"
    assert all("seconds" in cell and "share" not in cell for cell in cells[1:])


def test_a_compiler_that_fails_is_told(small, monkeypatch):
    def compile(model, **options):
        def fail(**inputs):
            raise torch._dynamo.exc.BackendCompilerFailed(lambda: 0, RuntimeError("no C++ compiler"), None)

        return fail

    monkeypatch.setattr(torch, "compile", compile)
    cells = measure()
    assert ["skipped" in cell for cell in cells] == [False] * 3 + [True] * 3
    assert "no C++ compiler" in cells[3]["skipped"] or "BackendCompilerFailed" in cells[3]["skipped"]


def test_what_a_cpu_has_no_room_for_is_not_tried(small, monkeypatch):
    monkeypatch.setattr(module, "measure_available_memory", lambda device: 1000)
    monkeypatch.setattr(module, "TrainingStep", None)
    report = module.run_steps(["0.3b-dense-gqa"], CPU, torch.float32, length=30)
    cells = report["steps"][0]["cells"]
    assert all(cell["skipped"].startswith("needs about") for cell in cells) and len(cells) == 6
    assert module.tabulate_steps(report).count("needs about") == 6
    need = module.estimate_bytes(make_small(), 1, 30, 4, "none")
    assert need < module.estimate_bytes(make_small(), 1, 30, 4, "ours")


@pytest.mark.parametrize("size", SIZES)
def test_every_size_at_a_small_scale(size):
    config = make_config(size, 0.05)
    whole = make_config(size)
    for name in ("num_hidden_layers", "num_attention_heads", "vocab_size"):
        assert getattr(config.backbone_config, name) == getattr(whole.backbone_config, name)
    assert config.hidden_size < whole.hidden_size and config.memory_layers == whole.memory_layers
    if "moe" in size:
        step = TrainingStep(config, 1, 24, CPU, torch.float32)
        step.run(step.models["ours"])
        assert step.experts == "grouped_mm"  # what transformers takes where nobody chooses


def test_mfu_is_not_counted_by_products_that_the_cpu_has_no_instruction_for(small, monkeypatch):
    rates = {torch.float32: (1e11, 2048), torch.float16: (1e8, 256)}
    monkeypatch.setattr(module, "measure_products", lambda device, dtype, most: rates[dtype])
    report = module.run_steps(["0.3b-dense-gqa"], CPU, torch.float16, length=30, rounds=2, compiled=False)
    assert report["machine"]["flop_per_s"] == 1e11 and report["machine"]["flop_per_s_is"].endswith("2,048, float32")


def test_names_of_sizes():
    assert choose_sizes(["all"]) == PAPER and len(PAPER) == 6
    assert choose_sizes(["1.2b-moe-gqa", "all"])[0] == "1.2b-moe-gqa" and len(choose_sizes(["all", "all"])) == 6
    with pytest.raises(InputError, match=r"did you mean '1\.2b-moe-gqa'"):
        choose_sizes(["1.2b-moe-gq"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--step", "0.3b"], "--step 0.3b: there is no such size"),
        (["--step", "0.3b-dense-gqa", "--quick"], "--quick is a part of the grid"),
        (["--step", "0.3b-dense-gqa", "--devices", "gpu9"], "there is no such device here"),
        (["--step", "0.3b-dense-gqa", "--devices", "meta"], "it holds no numbers"),
        (["--step", "0.3b-dense-gqa", "--devices", "hpu"], "there is no such device here"),
        (["--step", "0.3b-dense-gqa", "--devices", "mkldnn"], "Leave it out, or give cpu"),
        (["--step", "0.3b-dense-gqa", "--plot", "step.pdf"], "step.pdf"),
        (["--batch", "2"], "--batch is for training steps"),
        (["--scale", "0.5"], "--scale is for training steps"),
        (["--length", "100"], "--length is for training steps"),
        (["--devices", "mps"], "--devices mps: the memory alone"),
        (["--dtype", "float16"], "--dtype float16 is for --step"),
    ],
)
def test_wrong_arguments(words, message, capsys):
    assert bench(words) == 1
    captured = capsys.readouterr()
    assert message in captured.err and captured.out == "" and "Traceback" not in captured.err


@pytest.mark.parametrize(
    "words", [["--scale", "0"], ["--scale", "2"], ["--batch", "0"], ["--length", "-1"], ["--step"]]
)
def test_impossible_numbers(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench(words)
    assert stopped.value.code == 2
