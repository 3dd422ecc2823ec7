"""Of which species is a window of a genome?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from gengram.errors import InputError
from gengram.files import check_input_files

from .folder import Built, Recipe, check_task_folder
from .rows import Choice, build_task, list_parts, open_genome
from .splits import Division


def name_species(genome: Sequence[tuple[str, str]], flag: str = "--genome") -> dict[str, str]:
    """Return file by species.

    Raises:
        `InputError`: a name is there twice, or there is only one.
    """
    files = dict(genome)
    if len(files) < len(genome):
        names = [name for name, _ in genome]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{flag}: {twice!r} is named twice; give each species one file")
    if len(files) < 2:
        raise InputError(f"{flag}: {len(files)} species; a task needs two classes at least")
    return files


def build_species_windows(
    genome: Sequence[tuple[str, str]],
    length: int,
    out: str,
    *,
    per_class: int | str | None = "least",
    max_n: float = 0.05,
    test_contigs: Sequence[str] | None = None,
    validation_contigs: Sequence[str] | None = None,
    block: int = 250_000,
    test_share: float = 0.2,
    validation_share: float = 0.1,
    seed: int = 0,
    name: str = "species_classification",
    format: str = "csv.gz",
    assembly: str | None = None,
    license: str | None = None,
    overwrite: bool = False,
) -> Built:
    """Cut windows that do not overlap out of several genomes; the class is the species.

    Args:
        genome: (species, FASTA file) of each.
        length: of a window, in bp. A window begins where the one before ends, from the first base of a contig on.
        out: the folder of tasks.

    The others are the arguments of the command. `strand` is drawn.
    """
    files = name_species(genome)
    check_input_files(*files.values())
    check_task_folder(out, name, overwrite)
    sources, left_out = [], 0
    for label, (species, fasta) in enumerate(files.items()):
        one = open_genome(fasta)
        rng = np.random.default_rng([seed, label])
        tables = []
        for part in list_parts(one):
            starts = np.arange(part.start, part.end - length + 1, length, dtype=np.int64)
            # A block of a split has whole windows: those on its edges are left out later.
            tables.append(
                pd.DataFrame(
                    {
                        "chrom": part.record if part.record == part.contig else part.contig,
                        "start": starts,
                        "end": starts + length,
                        "strand": np.where(rng.random(len(starts)) < 0.5, "+", "-"),
                        "label": label,
                        "name": [f"{species}:{part.contig}:{start}" for start in starts],
                        "line": 0,
                    }
                )
            )
            left_out += not len(starts)
        rows = pd.concat(tables, ignore_index=True)
        if not len(rows):
            raise InputError(f"{fasta}: no contig has {length:,} bp; give a smaller --length")
        sources.append((one, rows))
    recipe = Recipe(
        "species-windows",
        f"Species of windows of {length:,} bp",
        f"Windows of {length:,} bp that do not overlap, of either strand; the class is the species.",
        list(files),
        metric="auroc",
        files=list(files.values()),
        settings={"length": length, "per_class": per_class, "max_n": max_n, "seed": seed, "block": block},
        problems=["Species that are far from each other are told apart by the composition of bases alone."],
        assembly=assembly,
        license=license,
        test_contigs=test_contigs,
        validation_contigs=validation_contigs,
    )
    return build_task(
        sources,
        recipe,
        Choice(per_class, max_n),
        Division(block, test_share, validation_share, seed),
        out=out,
        name=name,
        format=format,
        overwrite=overwrite,
        left_out={"contigs shorter than a window": left_out},
    )


__all__ = ["build_species_windows", "name_species"]
