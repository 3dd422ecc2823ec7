"""The verbs that bring something to the Hub: push, card, dataset push."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gengram.command_line import Answer, VerbParser, add_max_non_dna, add_overwrite, run
from gengram.errors import InputError
from gengram.files import check_output_file, make_scratch, write_text
from gengram.genome.letters import MAX_NON_DNA
from gengram.loading.checkpoints import check_repo_id, find_checkpoint

_WHAT = "a run of gengram finetune, one of its seed folders, or any folder with a saved model or adapter"


def push(argv: Sequence[str] | None = None) -> int:
    """Run `gengram push`; returns the exit code."""
    parser = VerbParser(
        "push",
        usage="ORG/NAME --model RUN_OR_FOLDER [...]",
        description="Publish a fine-tuned model on the Hugging Face Hub, in one commit.",
        example="gengram push lab/splice --model runs/splice --license cc-by-4.0 --dry_run\n"
        "gengram push lab/splice --model runs/splice --license cc-by-4.0 --private",
        notes="Of a run, the seed that is best on the validation rows goes up. Everything is one commit: the\n"
        "repository has all of it or none. The answer is the commit's address; of a dry run, which needs no\n"
        "network, a line `size<TAB>path` for each file. You need a token that may write: `hf auth login`.",
    )
    parser.add_position("model", "--model")
    parser.add_position("repo", "ORG/NAME")
    _add_content(parser, "the repository (also as an argument); it is made if it is not there")
    content = parser.add_argument_group("card")
    content.add_argument("--card", metavar="FILE", help="use this file as the card instead of rendering one")
    _add_push(parser)
    parser.add_common()
    arguments = parser.parse(argv)
    _check_repo(parser, arguments.repo)

    def work(model: str, repo: str, private: bool, revision: str | None, dry_run: bool, **options: Any) -> Answer:
        find_checkpoint(model, options["seed"])
        from gengram.training.publishing.model import prepare_upload
        from gengram.training.publishing.upload import send

        return send(prepare_upload(model, repo, **options), private=private, revision=revision, dry_run=dry_run)

    return run(parser, arguments, work)


def card(argv: Sequence[str] | None = None) -> int:
    """Run `gengram card`; returns the exit code."""
    parser = VerbParser(
        "card",
        usage="[ORG/NAME] --model RUN_OR_FOLDER [--out card.md] [...]",
        description="Render the card of a fine-tuned model, for review.",
        example="gengram card lab/splice --model runs/splice --license cc-by-4.0 --out card.md",
        notes="Without --out, the card goes to standard output.",
    )
    parser.add_position("model", "--model")
    parser.add_position("repo", "ORG/NAME", optional=True)
    _add_content(parser, "the repository that the example in the card loads from (also as an argument)")
    output = parser.add_argument_group("output")
    output.add_argument("--out", "--output", metavar="FILE", help="write the card here")
    add_overwrite(output)
    parser.add_common()
    arguments = parser.parse(argv)
    if arguments.repo is not None:
        _check_repo(parser, arguments.repo)

    def work(model: str, repo: str | None, out: str | None, overwrite: bool, **options: Any) -> Answer:
        find_checkpoint(model, options["seed"])
        if out is not None:
            check_output_file(out, overwrite=overwrite)
        from gengram.training.publishing.model import prepare_upload

        repo = repo or f"your-organization/{_suggest_name(model)}"
        text = str(prepare_upload(model, repo, **options).card)
        if out is not None:
            write_text(text, Path(out))
        return Answer(text if out is None else out, {"repo": repo, "model": model, "out": out, "card": text})

    return run(parser, arguments, work)


def push_dataset(argv: Sequence[str] | None = None) -> int:
    """Run `gengram dataset push`; returns the exit code."""
    parser = VerbParser(
        "dataset push",
        usage="FOLDER ORG/NAME [...]",
        description="Publish a folder of labelled tables as a dataset on the Hugging Face Hub, in one commit.",
        example="gengram dataset push data/promoters lab/promoters --license cc-by-4.0 --dry_run\n"
        "gengram dataset push data/promoters lab/promoters --license cc-by-4.0",
        notes="FOLDER holds tables that `gengram finetune` reads: train, validation (valid, val, dev, eval), test,\n"
        "each .csv, .tsv, .jsonl, .parquet or FASTA, plain or .gz; what follows the first word of a name does not\n"
        "matter (test_shared.csv.gz). Or it holds folders of such tables, one for each configuration, or\n"
        "folders of those. A task.yaml beside tables (classes, licence, assembly, source, problems ...) goes up,\n"
        "too: its classes are the names of the labels, the card tells the rest.",
    )
    parser.add_position("folder", "FOLDER")
    parser.add_position("repo", "ORG/NAME")
    what = parser.add_argument_group("what")
    what.add_argument("--folder", help="the folder with the tables (also as first argument)")
    what.add_argument(
        "--repo", metavar="ORG/NAME", help="the repository (also as second argument); it is made if it is not there"
    )
    what.add_argument("--license", default="unknown", help="licence of the data, e.g. cc-by-4.0")
    _add_allow(what)
    add_max_non_dna(what, MAX_NON_DNA)
    _add_push(parser)
    parser.add_common()
    arguments = parser.parse(argv)
    _check_repo(parser, arguments.repo)

    def work(
        folder: str,
        repo: str,
        license: str,
        allow: list[str],
        max_non_dna: float,
        private: bool,
        revision: str | None,
        dry_run: bool,
    ) -> Answer:
        if not Path(folder).is_dir():
            raise InputError(f"{folder}: there is no such folder (the tables of a dataset are the files of one folder)")
        from gengram.training.publishing.dataset import prepare_dataset
        from gengram.training.publishing.upload import send

        with make_scratch() as workspace:
            upload = prepare_dataset(folder, repo, workspace, license=license, allow=allow, max_non_dna=max_non_dna)
            return send(upload, private=private, revision=revision, dry_run=dry_run)

    return run(parser, arguments, work)


def _add_content(parser: VerbParser, repo: str) -> None:
    what = parser.add_argument_group("what")
    what.add_argument("--repo", metavar="ORG/NAME", help=repo)
    what.add_argument("--model", metavar="RUN_OR_FOLDER", help=_WHAT)
    what.add_argument("--seed", type=int, help="of a run, this seed (default: the best on the validation rows)")
    what.add_argument("--license", default="unknown", help="licence of the weights, e.g. cc-by-4.0")
    what.add_argument("--base_model", metavar="ORG/NAME", help="what was fine-tuned, if the run does not name it")
    what.add_argument("--dataset", metavar="ORG/NAME", help="dataset that the test rows are from; adds .eval_results")
    what.add_argument("--task", default="default", help="task of that dataset")
    what.add_argument(
        "--evaluation",
        metavar="FOLDER",
        help="of gengram evaluate: its scores of this model go into the card, and into .eval_results",
    )
    what.add_argument("--evaluated_as", metavar="NAME", help="this model's name there, if there are several")
    _add_allow(what)


def _add_allow(group: Any) -> None:
    group.add_argument(
        "--allow",
        metavar="KIND[:FILE]",
        action="append",
        default=[],
        help="let something private go up that the search has named, e.g. path:config.json; more than once",
    )


def _add_push(parser: VerbParser) -> None:
    where = parser.add_argument_group("where")
    where.add_argument("--private", action="store_true", help="make a new repository private")
    where.add_argument("--revision", metavar="BRANCH", help="an existing branch to write to (default: main)")
    where.add_argument("--dry_run", action="store_true", help="only list the files with their sizes in bytes")


def _check_repo(parser: VerbParser, name: str) -> None:
    try:
        check_repo_id(name)
    except InputError as error:
        parser.error(str(error))


def _suggest_name(path: str) -> str:
    name = re.sub(r"[^\w.-]+|-{2,}|\.{2,}", "-", Path(path).absolute().name).strip("-.")
    return name or "model"


__all__ = ["card", "push", "push_dataset"]
