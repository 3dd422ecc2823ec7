"""GENA-LM's heads by Hub id, for a user without the package: also the one that no Auto class knows."""

import torch

from gengram import GenaBertConfig, GenaBertForBinnedRegression


def push(folder, repo):
    import gengram

    gengram.GenaBertForBinnedRegression.from_pretrained(folder).push_to_hub(repo)


def predict_bins(repo, ids, bins):
    import sys

    import torch
    import transformers

    model = transformers.AutoModel.from_pretrained(repo, trust_remote_code=True)
    with torch.no_grad():
        logits = model(torch.tensor(ids), bins_mask=torch.tensor(bins)).logits
    return {"package": "gengram" in sys.modules, "class": type(model).__name__, "logits": logits.tolist()}


def test_the_head_for_bins_comes_back_without_the_package(hub, user, stranger, tmp_path):
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    model = GenaBertForBinnedRegression(GenaBertConfig(**sizes, intermediate_size=20, num_labels=3)).eval()
    model.save_pretrained(tmp_path)
    user.call(push, folder=tmp_path, repo="lab/gena-bins")
    assert {"modeling_gena.py", "configuration_gena.py"} <= set(hub.list_files("lab/gena-bins"))
    ids = torch.randint(5, 40, (2, 9))
    bins = torch.zeros(2, 9, dtype=torch.bool)
    bins[:, [3, 8]] = True
    theirs = stranger.call(predict_bins, repo="lab/gena-bins", ids=ids.tolist(), bins=bins.tolist())
    assert not theirs["package"] and theirs["class"] == "GenaBertForBinnedRegression"
    with torch.no_grad():
        expected = model(ids, bins_mask=bins).logits
    torch.testing.assert_close(torch.tensor(theirs["logits"]), expected, rtol=0, atol=1e-6)
