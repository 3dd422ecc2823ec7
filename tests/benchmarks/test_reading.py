"""The benchmark of reading: all read the same amount, memory is told, and what a GPU takes is the arithmetic."""

import json

import pytest

from gengram.benchmarks.speed import reading


def test_the_report(tmp_path, capsys):
    path = tmp_path / "out.json"
    given = ["--bases", "200000", "--batch", "2", "--length", "128", "--rounds", "1", "--json", str(path)]
    assert reading.main([*given, "--kinds", "kmers"]) == 0
    cells = json.loads(path.read_text())["cells"]
    [cell] = cells
    assert cell["kind"] == "kmers" and round(cell["bases_per_token"]) == 6
    assert set(cell["bases_per_second"]) == {"blocks", "text", "memmap"}
    assert min(*cell["bases_per_second"].values(), cell["to_text"]["ratio"], cell["to_memmap"]["ratio"]) > 0
    assert cell["share"] == pytest.approx(cell["gpu_tokens_per_second"] / cell["tokens_per_second"])
    assert cell["epoch"]["end"]["RssAnon"] > 0
    assert cell["epoch"]["blocks"] == 4 * -(-50_000 // (127 * 6))
    assert "| kmers |" in capsys.readouterr().out


def test_readers_give_batches_of_one_shape(tmp_path):
    reading.write_genome(tmp_path / "genome.fa", 40_000)
    (tmp_path / "recipe.yaml").write_text("name: random\ngenomes:\n  - {species: random, fasta: genome.fa}\n")
    reading.build_corpus(tmp_path / "recipe.yaml", tmp_path / "corpus")
    corpus = reading.open_corpus(tmp_path / "corpus")
    reading.write_letters(corpus, tmp_path / "letters")
    letters = reading.np.memmap(tmp_path / "letters", dtype="uint8", mode="r")
    assert len(letters) == 40_000
    readers = reading.make_readers(corpus, letters, reading.make_tokenizer("bases", letters), 3, 64, tmp_path)
    for read in readers.values():
        batch = read()
        assert (
            batch.shape == (3, 64)
            and str(batch.dtype) == "torch.int64"
            and set(batch.unique().tolist()) <= {5, 6, 7, 8}
        )


def test_tokens_of_a_gpu_are_operations_over_its_peak():
    from gengram.costs import count_operations
    from gengram.gengram.configuration_gengram import GengramConfig

    config = GengramConfig.from_size(reading.MODEL)
    one = count_operations(config, 1, 8192, training=True).count_step(causal=True)
    assert reading.count_gpu_tokens(8192) == pytest.approx(989e12 * 0.4 * 8192 / one)
    assert reading.count_gpu_tokens(8192) < reading.count_gpu_tokens(1024)
