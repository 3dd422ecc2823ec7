"""What is a corpus made of? A recipe: a YAML file that names genomes, what of them is kept, held out and left out."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn

import yaml

from gengram.errors import InputError, suggest
from gengram.files import check_input_files
from gengram.loading.faults import tell_faults
from gengram.printable import make_printable, shorten
from gengram.progress import tell
from gengram.training.yaml_files import Loader, read_yaml

RECIPES = Path(__file__).parents[1] / "recipes" / "corpora"
"""Recipes that come with the package; the comment at the top of each says whose corpus it is, and where its files
are."""

_NO_LETTER = re.compile("[\0\ud800-\udfff]")
_GLOB = re.compile(r"[*?\[]")
_Path = tuple[str | int, ...]


class Regions(NamedTuple):
    """Intervals that are kept, or dropped.

    Attributes:
        file: a BED, GFF3 or GTF file.
        types: of the records of a GFF that count; all of them if empty.
        flank: bp that are added on both sides.
    """

    file: str
    types: tuple[str, ...] = ()
    flank: int = 0


class VcfContig(NamedTuple):
    """What a contig of a VCF file is: a record of the genome, or a contig of which some are slices, and the number of
    its bases before the first one of the file."""

    contig: str
    offset: int = 0


class HeldOut(NamedTuple):
    """Contigs or intervals (`contig:start-end`, from 1, the end included) that no window of training lies in."""

    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class GenomeRecipe:
    """A genome of a corpus.

    Attributes:
        species: its name; genomes of one name are one species.
        fasta: files, plain, gzip or bgzip; patterns as in a shell are understood.
        group: the group whose weight it shares; by default the species.
        weight: of the species in its group; by default its bases.
        annotation: a GFF3 or GTF file, or several.
        vcf: files of variants: haplotypes that are drawn beside the genome itself.
        samples: whose haplotypes; `all`, or none: sites alone, drawn by their frequency.
        haplotypes: how many are drawn of sites.
        unphased: genotypes without a phase are refused, or a coin says which haplotype has which allele (`coin`).
        vcf_contigs: contig of the VCF files -> what it is here, where the names do not tell.
        keep: windows lie in these intervals only.
        drop: no window lies in these.
        near_genes: windows are drawn by bases that lie at most so many bp from a gene of the annotation.
        gene_centred: weight of the genes' bases as anchors of windows, beside 1 of all others.
        soft_masked_weight: weight of the bases in lower case as anchors, beside 1.
        min_length: shorter records are left out, in bp.
        skip_descriptions: records whose header holds one of these words are left out.
        hold_out: for validation and test.
        leave_out: contigs or intervals that are not stored at all.
    """

    species: str
    fasta: tuple[str, ...]
    group: str = ""
    weight: float | None = None
    annotation: tuple[str, ...] = ()
    vcf: tuple[str, ...] = ()
    samples: tuple[str, ...] | Literal["all"] | None = None
    haplotypes: int = 8
    unphased: Literal["refuse", "coin"] = "refuse"
    vcf_contigs: Mapping[str, VcfContig] = dataclasses.field(default_factory=dict)
    keep: tuple[Regions, ...] = ()
    drop: tuple[Regions, ...] = ()
    near_genes: int | None = None
    gene_centred: float | None = None
    soft_masked_weight: float | None = None
    min_length: int = 1
    skip_descriptions: tuple[str, ...] = ()
    hold_out: HeldOut = dataclasses.field(default_factory=HeldOut)
    leave_out: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class CorpusRecipe:
    """A corpus.

    Attributes:
        name: of the corpus.
        genomes: what it is made of.
        licence: of the letters, as the Hub names it; `unknown` is said as such.
        groups: weights of the groups of genomes; by default all windows are drawn by bases.
        max_n_run: the longest run of N in bp that a window may have inside.
        max_shared: a stretch of so many bp that held-out or left-out contigs have, too, is cut out of the training
            segments, on both strands; None: nothing is cut.
        seed: of all that is drawn while the corpus is built.
    """

    name: str
    genomes: tuple[GenomeRecipe, ...]
    licence: str = "unknown"
    groups: Mapping[str, float] = dataclasses.field(default_factory=dict)
    max_n_run: int = 100
    max_shared: int | None = 500
    seed: int = 0


class GivenRecipe(NamedTuple):
    """A recipe, and where it says what.

    Attributes:
        recipe: what it says.
        path: the file.
        folder: the folder that its names of files begin in.
        lines: place of a value, as `("genomes", 0, "leave_out", 1)` -> line of the file, from 1.
    """

    recipe: CorpusRecipe
    path: Path
    folder: Path
    lines: Mapping[_Path, int]

    def place(self, *path: str | int) -> str:
        """Return where a value stands: the file, and the line if it is written there."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.path}, line {self.lines[path]}" if path else str(self.path)

    def find_files(self, *path: str | int) -> list[tuple[str, Path]]:
        """Return the files of a value, or of each of its values: the name as the recipe has it, and the path.

        Raises:
            `InputError`: no such file, a pattern that no file fits, one file twice.
        """
        value: Any = self.recipe
        for step in path:
            value = value[step] if isinstance(step, int) else getattr(value, step)
        names = [(value, path)] if isinstance(value, str) else [(one, (*path, i)) for i, one in enumerate(value)]
        found: list[tuple[str, Path]] = []
        for name, where in names:
            there = self._find(name, where)
            if twice := {file for _, file in there} & {file for _, file in found}:
                raise InputError(f"{self.place(*where)}: {min(twice)} is given twice")
            found += there
        return found

    def _find(self, name: str, where: _Path) -> list[tuple[str, Path]]:
        file = self.folder / name
        with tell_faults(self.place(*where), (OSError,)):  # a name that no file can have
            is_there = file.exists()
        if not _GLOB.search(name) or is_there:
            self._check_file(file, where)
            return [(Path(name).name if Path(name).is_absolute() else name, file)]
        root = Path(file.anchor) if file.is_absolute() else Path()
        pattern = str(file.relative_to(root))
        with tell_faults(f"{self.place(*where)}: {name}"):
            files = sorted(one for one in root.glob(pattern) if not one.is_dir())
        for one in files:
            self._check_file(one, where)
        if not files:
            raise InputError(f"{self.place(*where)}: no file fits {name!r} in {self.folder}")
        inside = [one for one in files if one.is_relative_to(self.folder)]
        return [(str(one.relative_to(self.folder)) if one in inside else one.name, one) for one in files]

    def _check_file(self, file: Path, where: _Path) -> None:
        """Refuse a file that cannot be read, as a link to nothing, or whose name no text can have."""
        try:
            check_input_files(file)
        except InputError as error:
            raise InputError(f"{self.place(*where)}: {error}") from error
        if _NO_LETTER.search(str(file)):
            raise InputError(f"{self.place(*where)}: {file}: the name is no text in UTF-8; rename the file")


def list_corpora() -> dict[str, str]:
    """Return the names of the package's recipes of corpora, and what each is: its first line."""
    return {path.stem: path.read_text(encoding="utf-8").splitlines()[0][2:] for path in sorted(RECIPES.glob("*.yaml"))}


def read_corpus_recipe(name: str | Path, genomes: str | Path | None = None) -> GivenRecipe:
    """Read the recipe of a corpus.

    Args:
        name: path of a YAML file, or the bare name of one of the package's recipes.
        genomes: the folder that the names of files begin in; by default the recipe's own.

    Raises:
        `InputError`: no such recipe or folder; a key that is none or is there twice, a value that does not fit, with
            its line; weights that sum to zero.
    """
    path, shipped = _find_recipe(name)
    if genomes is None and shipped:
        raise InputError(f"the recipe {str(name)!r} needs the folder that its genomes lie in: give it with --genomes")
    folder = path.parent if genomes is None else Path(genomes)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder of genomes")
    root, loader = read_yaml(path)
    reader = _Reader(path, loader)
    if root is None:
        raise InputError(f"{path}: the recipe is empty")
    given = GivenRecipe(reader.read_corpus(root), path, folder, reader.lines)
    _check(given)
    return given


def _find_recipe(name: str | Path) -> tuple[Path, bool]:
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.name != str(name):
        check_input_files(path)
        return path, False
    if path.is_file():
        tell(f"the recipe {name!r} of the package is taken, not the file of that name: write ./{name} for the file")
    path = RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = list_corpora()
        raise InputError(
            f"no recipe of a corpus is called {str(name)!r}{suggest(str(name), known)}; there are {', '.join(known)}, "
            "or give a file that ends with .yaml"
        )
    return path, True


class _Reader:
    """Makes values of nodes; remembers their lines."""

    def __init__(self, path: Path, loader: Loader):
        self.path, self.loader = path, loader
        self.lines: dict[_Path, int] = {}

    def read_corpus(self, root: yaml.Node) -> CorpusRecipe:
        """Make the recipe of a file's root; an `InputError` names the line of what is wrong."""
        kinds = {
            "name": self._name,
            "licence": self._licence,
            "genomes": lambda node, at: tuple(self._list(node, at, self._genome)),
            "groups": self._weights,
            "max_n_run": self._count(0),
            "max_shared": self._or_null(self._count(62, 1 << 20)),
            "seed": self._count(0, (1 << 63) - 1),
        }
        return CorpusRecipe(**self._mapping(root, (), kinds, ("name", "genomes"), "a recipe"))

    def _genome(self, node: yaml.Node, at: _Path) -> GenomeRecipe:
        several = self._texts
        kinds = {
            "species": self._name,
            "group": self._name,
            "fasta": several,
            "weight": self._or_null(self._number),
            "annotation": several,
            "vcf": several,
            "samples": self._samples,
            "haplotypes": self._count(1, 10_000),
            "unphased": self._unphased,
            "vcf_contigs": self._vcf_contigs,
            "keep": self._regions,
            "drop": self._regions,
            "near_genes": self._or_null(self._count(0)),
            "gene_centred": self._or_null(self._number),
            "soft_masked_weight": self._or_null(self._number),
            "min_length": self._count(1),
            "skip_descriptions": several,
            "hold_out": self._hold_out,
            "leave_out": several,
        }
        read = self._mapping(node, at, kinds, ("species", "fasta"), "a genome")
        if not read["fasta"]:
            self._fail(node, "fasta: no file is named")
        return GenomeRecipe(**{**read, "group": read.get("group") or read["species"]})

    def _hold_out(self, node: yaml.Node, at: _Path) -> HeldOut:
        kinds = {"validation": self._texts, "test": self._texts}
        return HeldOut(**self._mapping(node, at, kinds, (), "hold_out"))

    def _regions(self, node: yaml.Node, at: _Path) -> tuple[Regions, ...]:
        return tuple(self._list(node, at, self._region))

    def _region(self, node: yaml.Node, at: _Path) -> Regions:
        if isinstance(node, yaml.ScalarNode):
            return Regions(self._text(node, at))
        kinds = {"file": self._text, "types": self._texts, "flank": self._count(0)}
        return Regions(**self._mapping(node, at, kinds, ("file",), "intervals"))

    def _vcf_contigs(self, node: yaml.Node, at: _Path) -> dict[str, VcfContig]:
        def read(node: yaml.Node, at: _Path) -> VcfContig:
            if isinstance(node, yaml.ScalarNode):
                return VcfContig(self._text(node, at))
            kinds = {"contig": self._text, "offset": self._count(0)}
            return VcfContig(**self._mapping(node, at, kinds, ("contig",), "a contig"))

        return {key: read(value, (*at, key)) for key, value in self._pairs(node, at, "vcf_contigs")}

    def _samples(self, node: yaml.Node, at: _Path) -> tuple[str, ...] | str | None:
        if isinstance(node, yaml.ScalarNode) and node.value == "all":
            return "all"
        return None if self._is_null(node) else self._texts(node, at)

    def _unphased(self, node: yaml.Node, at: _Path) -> str:
        value = self._scalar(node)
        if value not in ("refuse", "coin"):
            self._fail(node, f"unphased: {_show(value)!r}: choose refuse or coin")
        return value

    def _weights(self, node: yaml.Node, at: _Path) -> dict[str, float]:
        return {key: self._number(value, (*at, key)) for key, value in self._pairs(node, at, "groups")}

    def _mapping(
        self,
        node: yaml.Node,
        at: _Path,
        kinds: Mapping[str, Callable[[yaml.Node, _Path], Any]],
        needed: tuple[str, ...],
        what: str,
    ) -> dict[str, Any]:
        read = {}
        for key, value in self._pairs(node, at, what):
            if key not in kinds:
                line = f"{self.path}, line {self.lines[(*at, key)]}"
                raise InputError(f"{line}: {what} has no {_show(key)!r}{suggest(key, kinds)}")
            if not self._is_null(value) or key in ("max_shared",):
                read[key] = kinds[key](value, (*at, key))
        if lacking := [key for key in needed if key not in read]:
            self._fail(node, f"{what} needs {' and '.join(map(repr, lacking))}")
        return read

    def _pairs(self, node: yaml.Node, at: _Path, what: str) -> list[tuple[str, yaml.Node]]:
        """The keys and values of a mapping."""
        self.lines.setdefault(at, node.start_mark.line + 1)
        if not isinstance(node, yaml.MappingNode):
            self._fail(node, f"{what} is a mapping of names to values, e.g. `name: yeast`")
        pairs: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = self._text(key, ())
            self.lines[(*at, name)] = key.start_mark.line + 1
            if name in pairs:
                self._fail(key, f"{_show(name)} is given twice")
            pairs[name] = value
        return list(pairs.items())

    def _list(self, node: yaml.Node, at: _Path, read: Callable[[yaml.Node, _Path], Any]) -> list[Any]:
        """The values of a list, or of one value that is none."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        values = []
        for number, entry in enumerate(nodes):
            self.lines[(*at, number)] = entry.start_mark.line + 1
            values.append(read(entry, (*at, number)))
        return values

    def _texts(self, node: yaml.Node, at: _Path) -> tuple[str, ...]:
        return () if self._is_null(node) else tuple(self._list(node, at, self._text))

    def _text(self, node: yaml.Node, at: _Path) -> str:
        value = self._scalar(node)
        if not value.strip():
            self._fail(node, "an empty name")
        return value

    def _name(self, node: yaml.Node, at: _Path) -> str:
        name = self._text(node, at)
        if make_printable(name) != name or len(name) > 200 or name != name.strip():
            self._fail(node, f"{_show(name)!r}: a name is at most 200 printable letters, without blanks around")
        return name

    def _licence(self, node: yaml.Node, at: _Path) -> str:
        from gengram.model_cards.card import check_license  # loads transformers, which help does not wait for

        with tell_faults(f"{self.path}, line {node.start_mark.line + 1}"):
            try:
                return check_license(self._text(node, at), "licence")
            except InputError as error:
                raise InputError(f"{self.path}, line {node.start_mark.line + 1}: {error}") from error

    def _count(self, least: int, most: int = (1 << 40)) -> Callable[[yaml.Node, _Path], int]:
        def read(node: yaml.Node, at: _Path) -> int:
            text = self._scalar(node).replace("_", "")
            if not re.fullmatch("[0-9]{1,19}", text) or not least <= int(text) <= most:
                self._fail(node, f"{at[-1]}: {_show(text)!r} is no whole number from {least:,} to {most:,}")
            return int(text)

        return read

    def _number(self, node: yaml.Node, at: _Path) -> float:
        text = self._scalar(node)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1e12:
            self._fail(node, f"{at[-1]}: {_show(text)!r} is no number from 0 to 1e12")
        return value

    def _or_null(self, read: Callable[[yaml.Node, _Path], Any]) -> Callable[[yaml.Node, _Path], Any]:
        return lambda node, at: None if self._is_null(node) else read(node, at)

    def _is_null(self, node: yaml.Node) -> bool:
        return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"

    def _scalar(self, node: yaml.Node) -> str:
        if not isinstance(node, yaml.ScalarNode):
            kind = "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
            self._fail(node, f"one value is needed here, and this is {kind}")
        if none := _NO_LETTER.search(node.value):
            self._fail(node, f"{none[0]!r} is no letter")
        return node.value

    def _fail(self, node: yaml.Node, fault: str) -> NoReturn:
        raise InputError(f"{self.path}, line {node.start_mark.line + 1}: {fault}")


def _show(text: str) -> str:
    return shorten(make_printable(text), 60)


def _check(given: GivenRecipe) -> None:
    """Refuse what no single value tells."""
    recipe = given.recipe
    if not recipe.genomes:
        raise InputError(f"{given.place('genomes')}: a corpus of no genomes")
    groups = {genome.group for genome in recipe.genomes}
    for name in recipe.groups:
        if name not in groups:
            there = ", ".join(sorted(groups))
            raise InputError(
                f"{given.place('groups', name)}: no genome is of the group {name!r}{suggest(name, groups)}; there are "
                f"{there}"
            )
    if recipe.groups and (lacking := sorted(groups - set(recipe.groups))):
        raise InputError(f"{given.place('groups')}: the weight of {', '.join(lacking)} is missing")
    if recipe.groups and not sum(recipe.groups.values()):
        raise InputError(f"{given.place('groups')}: the weights of the groups sum to zero: nothing could be drawn")
    home: dict[str, str] = {}
    weights: dict[str, dict[str, list[float | None]]] = {}
    for number, genome in enumerate(recipe.genomes):
        at = given.place("genomes", number)
        if home.setdefault(genome.species, genome.group) != genome.group:
            raise InputError(f"{at}: {genome.species!r} is in the group {home[genome.species]!r} already")
        weights.setdefault(genome.group if recipe.groups else "all", {}).setdefault(genome.species, []).append(
            genome.weight
        )
        for key in ("near_genes", "gene_centred"):
            if getattr(genome, key) is not None and not genome.annotation:
                raise InputError(f"{given.place('genomes', number, key)}: {key} needs an annotation with genes")
        for key in ("samples", "vcf_contigs"):
            if getattr(genome, key) and not genome.vcf:
                raise InputError(f"{given.place('genomes', number, key)}: {key} needs a vcf")
    for group, species in weights.items():
        every = [weight for given_weights in species.values() for weight in given_weights]
        if any(weight is None for weight in every) != all(weight is None for weight in every):
            which = f" of the group {group!r}" if recipe.groups else ""
            raise InputError(
                f"{given.path}: give a weight to every genome{which}, or to none: weights and numbers of bases cannot "
                "be compared"
            )
        if None not in every and not sum(weight for weight in every if weight is not None):
            which = f"group {group!r}" if recipe.groups else "genomes"
            raise InputError(f"{given.path}: the weights of the {which} sum to zero: nothing could be drawn")


__all__ = [
    "RECIPES",
    "CorpusRecipe",
    "GenomeRecipe",
    "GivenRecipe",
    "HeldOut",
    "Regions",
    "VcfContig",
    "list_corpora",
    "read_corpus_recipe",
]
