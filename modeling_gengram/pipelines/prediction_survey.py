"""Can every row of a file be predicted? It is read once, and every fault is found before a model computes anything."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from gengram.errors import InputError
from gengram.genome.alphabet import reverse_complement
from gengram.genome.contigs import Genome
from gengram.genome.fasta import HeaderSurvey
from gengram.genome.formats import FASTA, find_format
from gengram.genome.letters import LetterSurvey, name_row
from gengram.genome.places import place_rows
from gengram.genome.streams import stream_rows, survey_rows
from gengram.genome.tables import find_features
from gengram.pipelines.answers import encode_sequences
from gengram.tokenization.encode import BulkEncoder
from gengram.training.data.strands import find_other_letters

# Every tokenizer makes a token of so many bases, at least one.
_LONGEST_TOKEN = 64


class PredictionSurvey:
    """What the rows of a file are.

    Args:
        file, sequence_column, genome: see `stream_rows`.
        max_non_dna: see `LetterSurvey`.
        counted_from: of files with places, what `survey_places` has returned; None of others.

    Attributes:
        rows: how many.
        schema: of the columns of `stream` without the sequences.

    Raises:
        `InputError`: a file that cannot be read, letters that are not DNA.
    """

    def __init__(
        self,
        file: str | Path,
        sequence_column: str | None,
        genome: Genome | None,
        max_non_dna: float,
        counted_from: int | None,
    ):
        self.file, self._column, self._genome = file, sequence_column, genome
        self._headers = HeaderSurvey() if find_format(file) in FASTA else None
        self._letters, self._counted_from = LetterSurvey(str(file), max_non_dna), counted_from
        self._shortest, self._longest, self._is_plain = 1 << 62, 0, True
        self._one_strand, self._one_strand_rows = "", 0
        self._misplaced = ""
        self.rows, self.schema = survey_rows(file, sequence_column, genome, self._look)
        if self._headers is not None:
            self.schema = pa.table(self._headers.read(["chr1:0-1|a"])).schema
        find_features(self.schema, file)
        self._letters.judge()

    def stream(self) -> Iterator[pa.Table]:
        """Yield the rows in blocks, as `stream_rows` does, with the columns that `read_rows` has."""
        for block in stream_rows(self.file, self._column, self._genome):
            if self._headers is not None:
                columns = self._headers.read(block["name"].to_pylist())
                block = pa.table({"sequence": block["sequence"], **columns})
            yield block

    def check_places(self) -> None:
        """Refuse rows of which it is not known where each base is.

        Raises:
            `InputError`: a place that has not as many bases as the row.
        """
        if self._misplaced:
            raise InputError(self._misplaced)

    def check_strands(self) -> None:
        """Refuse sequences that have no other strand.

        Raises:
            `InputError`: a letter that is no nucleotide code; names the row.
        """
        if self._one_strand:
            raise InputError(f"{self._one_strand} (rows like this: {self._one_strand_rows} of {self.rows})")

    def check_tokens(self, encode: BulkEncoder, limit: int, too_long: str, by_base: bool) -> None:
        """Refuse rows that a model cannot read; only those of which that is not known are tokenized.

        Args:
            encode: of the model's tokenizer.
            limit: longest input in tokens, special tokens included.
            too_long: `error`, or longer ones are cut.
            by_base: whether each base has to be one token.

        Raises:
            `InputError`: a sequence that is too long, or shorter than a token, or of other tokens; names the row.
        """
        added = len(encode.before) + len(encode.after)
        room = limit - added if too_long == "error" else 1 << 62  # No token is shorter than a base.
        if self._longest <= room and self._shortest > _LONGEST_TOKEN and self._is_plain:
            return
        row = short = long = longest = 0
        first_short = first_long = first_other = ""
        for block in self.stream():
            lengths = pc.utf8_length(block["sequence"]).to_numpy()
            doubtful = (lengths > room) | (lengths <= _LONGEST_TOKEN) | ~_find_plain(block["sequence"])
            some = np.flatnonzero(doubtful)
            texts = block["sequence"].take(pa.array(some)).to_pylist()
            for place, ids, bp in zip(some.tolist(), encode_sequences(encode, texts), lengths[some].tolist()):
                where, tokens = f"{self.file}, data row {row + place + 1}", len(ids)
                if tokens <= added:
                    first_short = first_short or (
                        f"{where}: the sequence of {bp} bp is shorter than a token of this model, so it has none"
                    )
                    short += 1
                if tokens > limit and too_long == "error":
                    first_long = first_long or (
                        f"{where}: the sequence of {bp} bp is {tokens} tokens, but the limit is {limit} tokens"
                    )
                    long, longest = long + 1, max(longest, tokens)
                if by_base and tokens - added != bp:
                    first_other = first_other or (
                        f"{where}: {bp} bp are {tokens - added} tokens; bases need one token each"
                    )
            row += len(block)
        if short:
            raise InputError(f"{first_short} ({short} of {self.rows} rows)")
        if long:
            raise InputError(
                f"{first_long} ({long} of {self.rows} rows are too long, the longest has {longest}). Shorten them, cut "
                "them with --too_long truncate or center, or take a longer model (for a new one: "
                "max_position_embeddings in backbone_config). gengram predict also reads them in windows: --too_long "
                "window."
            )
        if first_other:
            raise InputError(first_other)

    def _look(self, start: int, block: pa.Table) -> None:
        texts = block["sequence"].to_pylist()
        self._letters.look(texts, lambda row: name_row(start + row, block.slice(row, 1).to_pylist()[0]))
        lengths = pc.utf8_length(block["sequence"]).to_numpy()
        self._shortest, self._longest = min(self._shortest, int(lengths.min())), max(self._longest, int(lengths.max()))
        self._is_plain = self._is_plain and bool(_find_plain(block["sequence"]).all())
        if (other := find_other_letters(block["sequence"])).any():
            self._one_strand = self._one_strand or self._tell_one_strand(start, texts, int(other.argmax()))
            self._one_strand_rows += int(other.sum())
        if self._headers is not None:
            self._headers.look(block["name"].to_pylist())
        if self._counted_from is not None and not self._misplaced:
            table = place_rows(block, self._counted_from)
            bases = table["end"].to_numpy() - table["start"].to_numpy()
            for row in np.flatnonzero(bases != lengths)[:1].tolist():
                self._misplaced = (
                    f"{self.file}, data row {start + row + 1}: the sequence has {lengths[row]} bases and its place "
                    f"{bases[row]}, so it is not known where each base is; write a .tsv, .csv or .parquet file"
                )

    def _tell_one_strand(self, start: int, texts: list[str], place: int) -> str:
        try:
            reverse_complement(texts[place])
        except ValueError as error:
            return f"{self.file}, data row {start + place + 1}: there is no reverse complement: {error}"
        return ""


def _find_plain(sequences: pa.ChunkedArray) -> np.ndarray:
    """Return which sequences are nothing but A, C, G and T in upper case, bool [N]."""
    return ~pc.match_substring_regex(sequences, "[^ACGT]").to_numpy()


__all__ = ["PredictionSurvey"]
