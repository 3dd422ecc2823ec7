"""From ids to text, of every kind of tokenizer: DNA in, DNA out, also for who has not this package."""

import pytest
import torch
from conformance.tokenizer_kinds import TOKENIZERS
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, TokenizersBackend, pipeline

from gengram.pipelines import limit_to_bases

# DNABERT writes a sequence as overlapping k-mers between blanks, and a published file is read as it is.
SEQUENCE_BACK = [name for name in TOKENIZERS if not name.startswith("overlapping") and name != "bpe-as-published"]
ONE_UNIT = 12  # of whole k-mers; others read any length


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    """Each kind as it is made, as it is loaded again, and as it is loaded without the package."""
    folder = tmp_path_factory.mktemp("tokenizers")
    found = {}
    for name in SEQUENCE_BACK:
        made = TOKENIZERS[name](folder / f"files-{name}")
        made.save_pretrained(folder / name)
        again = (AutoTokenizer.from_pretrained(folder / name), TokenizersBackend.from_pretrained(folder / name))
        found[name] = (made, *again)
    return found


@settings(max_examples=15, deadline=None)
@given(sequence=st.lists(st.text("ACGT", min_size=ONE_UNIT, max_size=ONE_UNIT), min_size=1, max_size=5).map("".join))
@pytest.mark.parametrize("name", SEQUENCE_BACK)
def test_a_sequence_comes_back_without_blanks(name, sequence, tokenizers):
    for tokenizer in tokenizers[name]:
        ids = tokenizer(sequence)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == sequence
        assert tokenizer.batch_decode([ids, ids], skip_special_tokens=True) == [sequence] * 2


@pytest.mark.parametrize("name", SEQUENCE_BACK)
def test_what_a_model_writes_is_one_sequence(name, tokenizers):
    """It goes on from the prompt, base by base, and can be read again."""
    tokenizer = tokenizers[name][1]
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **sizes))
    limit_to_bases(model, tokenizer)
    write = pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")
    prompt = "GATTACAGGACC"
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "add_special_tokens": False}
    [whole] = write(prompt, **options)
    [rest] = write(prompt, return_full_text=False, **options)
    assert whole["generated_text"] == prompt + rest["generated_text"]
    assert rest["generated_text"] and set(rest["generated_text"]) <= set("ACGT")
