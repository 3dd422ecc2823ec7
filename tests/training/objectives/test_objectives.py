"""Labels of the objectives: which tokens are learned, which are hidden, and what a mask depends on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare
from transformers import DataCollatorForLanguageModeling

from gengram.errors import InputError
from gengram.tokenization import build_kmer_tokenizer, build_ntv3_tokenizer, build_nucleotide_tokenizer
from gengram.tokenization.overlapping import build_overlapping_tokenizer, list_overlapping_vocabulary
from gengram.training.objectives.build import SETTINGS, build_objective
from gengram.training.objectives.masked import MaskedObjective
from gengram.training.objectives.spans import choose_spans, list_lengths, measure_room

BASES = build_nucleotide_tokenizer()
FRAMED = build_nucleotide_tokenizer(template="cls_sep")
KMERS = build_kmer_tokenizer()
OVERLAPPING = build_overlapping_tokenizer(list_overlapping_vocabulary(6))
TOKENIZERS = {"bases": BASES, "kmers": KMERS, "overlapping": OVERLAPPING, "ntv3": build_ntv3_tokenizer()}
MASKED = [name for name in SETTINGS if name != "causal"]


def make_row(tokenizer, length=2000, block=0, letters="ACGT", seed=0):
    sequence = "".join(np.random.default_rng(seed).choice(list(letters), length))
    return {"input_ids": np.array(tokenizer(sequence, verbose=False)["input_ids"]), "block": block}


def is_within(hits, trials, share):
    return binomtest(int(hits), int(trials), share).pvalue > 1e-6


def test_causal_labels_are_the_tokens_but_for_the_first_of_each_document_n_and_padding():
    ids = np.array(BASES("ACGTNACGTA")["input_ids"])
    positions = np.array([0, 1, 2, 3, 4, 0, 1, 2, 0, 1])
    batch = build_objective("causal", BASES)([{"input_ids": ids, "position_ids": positions, "block": 3}])
    assert batch["labels"][0].tolist() == [-100, 5, 6, 7, -100, -100, 5, 6, -100, 8]
    assert batch["input_ids"][0].tolist() == ids.tolist()
    assert batch["position_ids"][0].tolist() == positions.tolist()
    assert "attention_mask" not in batch
    kept = build_objective("causal", BASES, skip_n=False)([{"input_ids": ids, "position_ids": positions, "block": 3}])
    assert kept["labels"][0, 4] == 9


def test_causal_labels_leave_out_special_tokens_unless_they_are_wanted():
    row = {"input_ids": np.array(FRAMED("ACGT")["input_ids"]), "block": 0}
    assert build_objective("causal", FRAMED)([row])["labels"][0].tolist() == [-100, 8, 5, 6, 7, -100]
    wanted = build_objective("causal", FRAMED, skip_special=False)([row])["labels"][0]
    assert wanted.tolist() == [-100, 8, 5, 6, 7, FRAMED.sep_token_id]


def test_rows_of_unequal_length_are_padded_and_the_padding_is_never_learned():
    rows = [make_row(FRAMED, 12), make_row(FRAMED, 9, block=1)]
    for name in SETTINGS:
        batch = build_objective(name, FRAMED)(rows)
        assert batch["attention_mask"].sum(1).tolist() == [14, 11]
        assert (batch["labels"][1, 11:] == -100).all()
        assert (batch["input_ids"][1, 11:] == FRAMED.pad_token_id).all()


def test_padding_inside_rows_is_told_by_its_id_or_by_the_attention_mask():
    padded = {"input_ids": np.array([8, 5, 6, 7, 0, 0]), "block": 0}
    batch = build_objective("masked", BASES, share=1)([padded])
    assert batch["attention_mask"][0].tolist() == [1, 1, 1, 1, 0, 0]
    assert (batch["labels"][0] != -100).tolist() == [True] * 4 + [False] * 2
    told = padded | {"input_ids": np.array([8, 5, 6, 7, 8, 8]), "attention_mask": np.array([1, 1, 1, 1, 0, 0])}
    assert (build_objective("causal", BASES)([told])["labels"][0, 4:] == -100).all()


def test_n_that_pads_is_not_taken_for_padding():
    ntv3 = TOKENIZERS["ntv3"]
    batch = build_objective("masked", ntv3)([{"input_ids": np.array(ntv3("ACGTNNAC")["input_ids"]), "block": 0}])
    assert "attention_mask" not in batch


def test_a_padded_tail_of_packed_rows_is_a_document_of_its_own():
    rows = [
        {"input_ids": np.array([8, 5, 6, 7]), "position_ids": np.array([0, 1, 0, 1]), "block": 0},
        {"input_ids": np.array([8, 5]), "position_ids": np.array([0, 1]), "block": 1},
    ]
    batch = build_objective("causal", BASES)(rows)
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1], [0, 1, 0, 1]]
    assert "attention_mask" not in batch


@pytest.mark.parametrize("choice", ["tokens", "words", "ngrams", "spans"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_shares_are_those_that_were_asked_for(kind, choice):
    tokenizer = TOKENIZERS[kind]
    objective = MaskedObjective(tokenizer, 7, choice=choice, share=0.2, mask_share=0.7, random_share=0.2)
    row = make_row(tokenizer, 4000 * (6 if kind == "kmers" else 1))
    hidden = masked = replaced = tokens = 0
    for block in range(30):
        shown, labels = objective.mask(row | {"block": block})
        chosen = labels != -100
        ids = row["input_ids"]
        assert (labels[chosen] == ids[chosen]).all() and (shown[~chosen] == ids[~chosen]).all()
        hidden, tokens = hidden + chosen.sum(), tokens + objective.is_learned[ids].sum()
        masked += (shown[chosen] == tokenizer.mask_token_id).sum()
        replaced += ((shown != tokenizer.mask_token_id) & (shown != ids))[chosen].sum()
    assert is_within(hidden, tokens, 0.2) if choice == "tokens" else abs(hidden / tokens - 0.2) < 0.002
    # A random token is the one that was there in one of so many cases.
    seen = 0.2 * (1 - 1 / len(objective.replacements))
    if choice in ("words", "spans"):  # runs share their fate: fewer independent draws
        assert masked / hidden == pytest.approx(0.7, abs=0.03) and replaced / hidden == pytest.approx(seen, abs=0.03)
    else:
        assert is_within(masked, hidden, 0.7) and is_within(replaced, hidden, seen)


def test_tokens_are_hidden_as_the_collator_of_transformers_hides_them():
    """Both count how often each kind of token comes to each fate; the two tables are of one distribution."""
    rows = [make_row(FRAMED, 3000, block) for block in range(20)]
    ours = build_objective("masked", FRAMED, replacement="vocabulary", skip_n=False)(rows)
    torch.manual_seed(0)
    collator = DataCollatorForLanguageModeling(FRAMED, mlm_probability=0.15)
    theirs = collator([{"input_ids": row["input_ids"]} for row in rows])
    ids = torch.from_numpy(np.stack([row["input_ids"] for row in rows]))

    def count_fates(batch):
        hidden, shown = batch["labels"] != -100, batch["input_ids"]
        masked = shown == FRAMED.mask_token_id
        fates = [~hidden, hidden & masked, hidden & ~masked & (shown != ids), hidden & ~masked & (shown == ids)]
        return np.array([int(fate.sum()) for fate in fates])

    a, b = count_fates(ours), count_fates(theirs)
    expected = (a + b) / 2
    assert chisquare(np.r_[a, b], np.r_[expected, expected], ddof=4).pvalue > 1e-4
    assert (ours["labels"][:, [0, -1]] == -100).all() and (theirs["labels"][:, [0, -1]] == -100).all()


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_depends_on_seed_and_block_alone(name):
    rows = [make_row(OVERLAPPING, 400, block, seed=block) for block in (5, 2**40, 9)]
    together = build_objective(name, OVERLAPPING, 3)(rows)
    again = build_objective(name, OVERLAPPING, 3)
    for place in (2, 0, 1, 0):
        alone = again([rows[place]])
        assert torch.equal(alone["labels"][0], together["labels"][place])
        assert torch.equal(alone["input_ids"][0], together["input_ids"][place])
    other = build_objective(name, OVERLAPPING, 4)(rows)
    assert not torch.equal(other["labels"], together["labels"])
    moved = build_objective(name, OVERLAPPING, 3)([rows[0] | {"block": 6}])
    assert not torch.equal(moved["labels"][0], together["labels"][0])


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("sequence", ["", "N" * 20, "A", "AN", "NNNNNNNACGTACNNNNNN"])
def test_rows_with_little_or_nothing_to_learn(name, sequence):
    row = {"input_ids": np.array(FRAMED(sequence)["input_ids"]), "block": 0}
    learned = build_objective(name, FRAMED).is_learned[row["input_ids"]]
    labels = build_objective(name, FRAMED)([row])["labels"][0].numpy()
    assert (labels[~learned] == -100).all()
    if learned.any():
        assert (labels != -100).any()


@settings(max_examples=150, deadline=None)
@given(
    sequence=st.text("ACGTNRacgt", max_size=60),
    kind=st.sampled_from(sorted(TOKENIZERS)),
    name=st.sampled_from(MASKED),
    share=st.floats(0.01, 1),
    cuts=st.lists(st.integers(0, 80), max_size=4),
    block=st.integers(0, 2**50),
)
def test_whatever_the_row_only_tokens_that_can_be_learned_are_hidden(sequence, kind, name, share, cuts, block):
    tokenizer = TOKENIZERS[kind]
    ids = np.array(tokenizer(sequence)["input_ids"], dtype=np.int64)
    starts = np.zeros(len(ids), dtype=bool)
    starts[[cut for cut in cuts if cut < len(ids)]] = True
    positions = np.arange(len(ids)) - np.maximum.accumulate(np.where(starts, np.arange(len(ids)), 0))
    objective = build_objective(name, tokenizer, share=share)
    shown, labels = objective.mask({"input_ids": ids, "position_ids": positions, "block": block})
    can_be = objective.is_learned[ids]
    chosen = labels != -100
    assert not (chosen & ~can_be).any()
    assert chosen.any() == can_be.any()
    assert (labels[chosen] == ids[chosen]).all() and (shown[~chosen] == ids[~chosen]).all()
    if name == "gena" and can_be.any():
        assert chosen.sum() == min(max(1, round(share * len(ids))), can_be.sum())


def test_all_overlapping_kmers_of_a_hidden_base_are_hidden():
    objective = build_objective("dnabert", OVERLAPPING, 1)
    whole = 0
    for block in range(40):
        row = make_row(OVERLAPPING, 300, block, seed=block)
        _, labels = objective.mask(row)
        hidden = (labels != -100)[1:-1]
        # A base is hidden where every k-mer that has it is.
        covers = [hidden[max(0, base - 5) : base + 1] for base in range(300)]
        of_bases = np.array([one.all() for one in covers])
        assert of_bases.any()
        # Each hidden k-mer is hidden for the sake of one of its bases.
        for token in np.flatnonzero(hidden):
            assert of_bases[token : token + 6].any()
        whole += of_bases[0] + of_bases[-1]
    assert whole > 0  # the ends are hidden as well


@pytest.mark.parametrize(("choice", "together"), [("words", True), ("spans", True), ("ngrams", False)])
def test_tokens_of_a_word_or_span_share_their_fate(choice, together):
    objective = MaskedObjective(OVERLAPPING, share=0.03, mask_share=0.5, random_share=0, choice=choice, length=4)
    mixed = 0
    for block in range(40):
        shown, labels = objective.mask(make_row(OVERLAPPING, 300, block))
        hidden = np.flatnonzero(labels != -100)
        for run in np.split(hidden, np.flatnonzero(np.diff(hidden) > 1) + 1):
            is_masked = shown[run] == OVERLAPPING.mask_token_id
            mixed += is_masked.any() and not is_masked.all() and len(run) <= 4
    # Runs that happen to touch may differ; four tokens are rarely two runs.
    assert mixed < 10 if together else mixed > 20


def test_lengths_of_runs_are_those_of_the_recipes():
    assert np.diff(list_lengths("ngrams", 3), prepend=0) == pytest.approx(np.array([6, 3, 2]) / 11)
    for mean in (1, 2.5, 20):
        chances = np.diff(list_lengths("spans", mean), prepend=0)
        assert (chances * np.arange(1, len(chances) + 1)).sum() == pytest.approx(mean, rel=1e-5)
    assert np.diff(list_lengths("words", 6), prepend=0).tolist() == [0] * 5 + [1]


def test_runs_are_the_greedy_ones_that_a_loop_finds():
    """The rounds of whole arrays give what going through the runs one by one gives."""
    for seed in range(60):
        source = np.random.default_rng(seed)
        room = measure_room(source.random(200) < 0.9, source.random(200) < 0.05)
        kind, length = [("ngrams", 3), ("spans", 4.0), ("words", 5)][seed % 3]
        chances, budget, cuts = list_lengths(kind, length), int(source.integers(1, 150)), kind != "words"
        chosen, run = choose_spans(room, chances, budget, np.random.default_rng(seed), cuts)

        random = np.random.default_rng(seed)
        inside = np.flatnonzero(room)
        order = random.permutation(len(inside))
        uniform = random.random(len(inside))
        owner, taken, runs = np.full(200, -1), 0, 0
        for begin, number in zip(inside[order], uniform):
            total = chances[min(room[begin], len(chances)) - 1]
            drawn = min(int(np.searchsorted(chances, number * total, side="right")) + 1, room[begin])
            if taken == budget or (owner[begin : begin + drawn] >= 0).any():
                continue
            if taken + drawn > budget:
                if not cuts and runs:
                    break
                drawn = budget - taken if cuts else drawn
            owner[begin : begin + drawn] = runs
            taken, runs = taken + drawn, runs + 1
            if taken >= budget:
                break
        alone = owner[owner >= 0]
        if cuts and taken < budget:  # the rest is filled with single tokens
            assert len(chosen) == min(budget, (room > 0).sum())
            continue
        assert chosen.tolist() == np.flatnonzero(owner >= 0).tolist() and run.tolist() == alone.tolist()


def test_random_tokens_are_bases_or_of_the_whole_vocabulary():
    row = make_row(KMERS, 60_000)
    for replacement, highest in (("bases", 4105), ("vocabulary", 4106)):
        objective = build_objective("masked", KMERS, share=1, mask_share=0, random_share=1, replacement=replacement)
        shown, labels = objective.mask(row)
        drawn = shown[labels != -100]
        assert drawn.max() <= highest
        assert (drawn < 6).any() == (replacement == "vocabulary")
        assert len(np.unique(drawn)) > 3000


def test_what_pairs_have_besides_goes_on_to_the_model():
    rows = [
        {"input_ids": np.array([2, 8, 5, 3, 6, 3]), "token_type_ids": np.array([0, 0, 0, 0, 1, 1]), "block": 0}
        | {"next_sentence_label": 1},
        {"input_ids": np.array([2, 8, 3, 6, 3]), "token_type_ids": np.array([0, 0, 0, 1, 1]), "block": 1}
        | {"next_sentence_label": 0},
    ]
    batch = build_objective("gena", FRAMED)(rows)
    assert batch["next_sentence_label"].tolist() == [1, 0]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("maskd", {}, "did you mean 'masked'"),
        ("masked", {"shares": 0.1}, "did you mean 'share'"),
        ("causal", {"share": 0.1}, "no option 'share'"),
        ("masked", {"share": 0}, "share=0"),
        ("masked", {"share": "0.15"}, "share='0.15'"),
        ("masked", {"mask_share": True}, "mask_share=True"),
        ("masked", {"choice": ["words"]}, "choice="),
        ("masked", {"skip_n": "no"}, "skip_n='no': give true or false"),
        ("causal", {"skip_special": 0}, "skip_special=0: give true or false"),
        ("gena", {"length": "3"}, "length='3'"),
        ("masked", {"share": float("nan")}, "share=nan"),
        ("masked", {"mask_share": 0.9, "random_share": 0.2}, "more than 1 together"),
        ("masked", {"choice": "word"}, "did you mean 'words'"),
        ("masked", {"replacement": "all"}, "replacement='all'"),
        ("masked", {"length": 3}, "leave it out"),
        ("gena", {"length": 0}, "length=0"),
        ("gena", {"length": 2.5}, "length=2.5"),
        ("masked", {"choice": "spans", "length": float("inf")}, "length=inf"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name, options, message):
    with pytest.raises(InputError, match=message):
        build_objective(name, BASES, **options)


def test_tokenizers_without_bases_or_without_mask_are_refused():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import TokenizersBackend

    words = Tokenizer(WordLevel({"[UNK]": 0, "hello": 1}, unk_token="[UNK]"))
    with pytest.raises(InputError, match="no token of A, C, G and T"):
        build_objective("causal", TokenizersBackend(tokenizer_object=words, unk_token="[UNK]"))
    letters = Tokenizer(WordLevel({"[UNK]": 0, "A": 1, "C": 2}, unk_token="[UNK]"))
    with pytest.raises(InputError, match="no mask token"):
        build_objective("masked", TokenizersBackend(tokenizer_object=letters, unk_token="[UNK]"))
