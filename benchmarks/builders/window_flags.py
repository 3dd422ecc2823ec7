"""From the flags of `gengram dataset build KIND` to the builders of windows."""

from collections.abc import Callable, Sequence
from typing import Any

from .folder import Built
from .window_rows import Output
from .window_splits import SplitRule

# The chromosomes that a task of the Long-Range Benchmark holds out (its card), and those that Genos validates on.
LRB_TEST = {
    "variants": ("chr9", "chr10"),
    "regulatory": ("chr8", "chr9"),
    "peaks": ("chr8", "chr9"),
    "sites": ("chr8",),
    "promoters": ("chr8", "chr9"),
    "enhancers": ("chr8", "chr9"),
}
LRB_VALIDATION = ("chr22",)


def _build(kind: str, build: Callable[..., Built], options: dict[str, Any]) -> Built:
    test: Sequence[str] | None = options.pop("test_contigs", None)
    validation: Sequence[str] | None = options.pop("validation_contigs", None)
    given = test is not None or validation is not None
    rule = SplitRule(
        tuple(test or ()) if given else LRB_TEST.get(kind, ()),
        tuple(validation or ()) if given else LRB_VALIDATION * (kind in LRB_TEST),
        given,
        options.pop("test_share"),
        options.pop("validation_share"),
        options.pop("block"),
        options.pop("seed"),
    )
    output = Output(*(options.pop(name) for name in ("out", "name", "format", "overwrite", "assembly", "license")))
    return build(out=output, rule=rule, **options)


def run_variants(**options: Any) -> Built:
    """Build pairs of windows; see `build_variants`."""
    from .variants import build_variants

    return _build("variants", build_variants, options)


def run_regulatory(**options: Any) -> Built:
    """Build regulatory chunks; see `build_regulatory`."""
    from .chunks import build_regulatory

    return _build("regulatory", build_regulatory, options)


def run_peaks(**options: Any) -> Built:
    """Build chunks with labels of peaks; see `build_peaks`."""
    from .chunks import build_peaks

    return _build("peaks", build_peaks, options)


def run_tracks(**options: Any) -> Built:
    """Build bins of tracks; see `build_tracks`."""
    from .tracks import build_tracks

    return _build("tracks", build_tracks, options)


def run_sites(**options: Any) -> Built:
    """Build windows around the places of a table; see `build_sites`."""
    from .sites import build_sites

    return _build("sites", build_sites, options)


def run_promoters(**options: Any) -> Built:
    """Build windows around start sites; see `build_promoters`."""
    from .centred import build_promoters

    return _build("promoters", build_promoters, options)


def run_enhancers(**options: Any) -> Built:
    """Build windows around enhancers; see `build_enhancers`."""
    from .centred import build_enhancers

    return _build("enhancers", build_enhancers, options)


def run_hotspots(**options: Any) -> Built:
    """Build windows with many variants; see `build_hotspots`."""
    from .hotspots import build_hotspots

    return _build("hotspots", build_hotspots, options)


def run_populations(**options: Any) -> Built:
    """Build windows of haplotypes; see `build_populations`."""
    from .populations import build_populations

    return _build("populations", build_populations, options)


def run_intervals(**options: Any) -> Built:
    """Build sequences of published intervals; see `build_intervals`."""
    from .mirrors import build_intervals

    return _build("intervals", build_intervals, options)


__all__ = [
    "run_enhancers",
    "run_hotspots",
    "run_intervals",
    "run_peaks",
    "run_populations",
    "run_promoters",
    "run_regulatory",
    "run_sites",
    "run_tracks",
    "run_variants",
]
