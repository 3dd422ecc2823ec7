"""Repositories that are not to be had: the message says what may be meant."""

import pytest
from huggingface_hub import constants

from gengram.errors import InputError
from gengram.loading.hub import require_repository


def test_a_slip_in_a_path_is_told_with_the_folder_that_is_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "runs" / "splice").mkdir(parents=True)
    for name in ("runs/splcie", "runs/Splice2"):
        with pytest.raises(InputError, match=r"no such folder here \(did you mean 'runs/splice'\?\), the model"):
            require_repository(name)
    for name in ("runs/enhancers", "no_organization_here/splice"):
        with pytest.raises(InputError, match=f"{name}: there is no such folder here, the model is not in the cache"):
            require_repository(name)
