"""Distributions are taken by their hash, and nothing of them lands outside the folder or in the repository."""

import hashlib
import io
import tarfile

import pytest
from conformance import layout


def write_archive(path, files: dict[str, str]) -> layout.Source:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return layout.Source("transformers", "9.9.9", hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def source(tmp_path, monkeypatch) -> layout.Source:
    """A distribution with one mixin, in a cache of its own."""
    monkeypatch.setattr(layout, "CACHE", tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    files = {
        "transformers-9.9.9/setup.py": "raise SystemExit",
        "transformers-9.9.9/tests/test_modeling_common.py": "class ModelTesterMixin: ...\n",
        "transformers-9.9.9/tests/generation/test_utils.py": "class GenerationTesterMixin: ...\n",
    }
    return write_archive(tmp_path / "cache" / "transformers-9.9.9.tar.gz", files)


def test_ours_is_laid_among_theirs_and_never_over_it(source, tmp_path):
    (tmp_path / "build").mkdir()
    folder = layout.lay_out(source, None, tmp_path / "build", download=False)
    assert (folder / "tests" / "test_modeling_common.py").read_text() == "class ModelTesterMixin: ...\n"
    assert not (folder / "setup.py").exists() and not (folder / "tests" / "setup.py").exists()
    # What the distribution has is not replaced, and no stand-in; what it lacks is one.
    assert (folder / "tests" / "generation" / "test_utils.py").read_text() == "class GenerationTesterMixin: ...\n"
    settings = (folder / "pytest.ini").read_text()
    assert "tests/generation/test_utils.py" not in settings and "tests/exporters/test_export.py" in settings
    for suite in set(layout.list_suites()) - set(layout.SUITES_OF_PEFT):
        assert layout.find_module(suite, folder).is_file()
    assert (folder / "tests" / "families" / "__init__.py").is_file()


def test_another_file_than_the_pinned_one_is_refused(source):
    source.archive.write_bytes(source.archive.read_bytes() + b" ")
    with pytest.raises(layout.Unavailable, match="its hash is"):
        layout.fetch_source(source, download=False)


def test_what_is_not_there_is_not_fetched_unless_asked_for(source):
    source.archive.unlink()
    with pytest.raises(layout.Unavailable, match=r"not in cache/: run `make conformance`"):
        layout.fetch_source(source, download=False)
    with pytest.raises(layout.Unavailable, match="not in cache/"):
        layout.fetch_version("5.17.0", download=False)


def test_versions_without_a_hash_are_refused():
    with pytest.raises(layout.Unavailable, match=r"sources\.txt has 5\.17\.0, "):
        layout.find_source("transformers", "1.0.0")
    with pytest.raises(layout.Unavailable, match=r"wheels\.txt has another"):
        layout.fetch_version("1.0.0", download=False)


def test_nothing_is_unpacked_outside_the_folder(tmp_path):
    write_archive(tmp_path / "evil.tar.gz", {"x-1/tests/../../../evil.py": "", "x-1/tests/test_x.py": ""})
    with pytest.raises(tarfile.OutsideDestinationError):
        layout.unpack_tests(tmp_path / "evil.tar.gz", tmp_path / "deep" / "er" / "folder")
    assert not list(tmp_path.rglob("evil.py"))


def test_every_pinned_distribution_has_its_wheel_or_is_the_installed_one():
    """Both files are for the same versions: what runs is what is tested."""
    versions = [source.version for source in layout.list_sources("transformers")]
    assert len(versions) == 2, "the oldest that is supported, and the pinned one"
    constraints = (layout.ROOT / "constraints.txt").read_text()
    assert f"transformers=={versions[1]} " in constraints
    assert f"transformers=={versions[0]} --hash" in (layout.HERE / "wheels.txt").read_text()
    assert f"transformers>={versions[0].removesuffix('.0')}," in (layout.ROOT / "setup.cfg").read_text()
    [peft] = layout.list_sources("peft")
    assert f"peft=={peft.version}\n" in constraints
