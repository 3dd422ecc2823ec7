"""The verb that brings models to a machine without a network: models fetch."""

from collections.abc import Sequence

from gengram.command_line import Answer, VerbParser, run


def models_fetch(argv: Sequence[str] | None = None) -> int:
    """Run `gengram models fetch`; returns the exit code: 1 also where something is missing."""
    parser = VerbParser(
        "models fetch",
        usage="ID [ID ...] [--dataset ID] [--to FOLDER] [...]",
        description="Bring models, their tokenizers and data sets from the Hub, and check that they can be read.",
        example="gengram models fetch InstaDeepAI/nucleotide-transformer-v2-50m-multi-species --to models\n"
        "gengram models fetch --dataset InstaDeepAI/nucleotide_transformer_downstream_tasks_revised --dry_run",
        notes="Without --to the files go to the cache of the Hub (HF_HOME), where every verb finds a model by its id\n"
        "with HF_HUB_OFFLINE=1. With --to each repository is a folder ORGANIZATION--NAME, which can be copied and\n"
        "given as --model (a data set as --dataset). An interrupted download goes on with the same command.\n"
        "No code is fetched.",
    )
    what = parser.add_argument_group("what")
    what.add_argument("ids", nargs="*", metavar="ID", help="models on the Hub (organization/name)")
    what.add_argument("--dataset", action="append", metavar="ID", help="a data set; may be given again")
    what.add_argument("--to", metavar="FOLDER", help="folder for them; by default the cache")
    what.add_argument("--dry_run", action="store_true", help="fetch nothing: list files and sizes")
    parser.add_common()
    arguments = parser.parse(argv)
    if not arguments.ids and not arguments.dataset:
        parser.error("name a model, or a data set with --dataset")
    lacking: list[str] = []

    def work(ids: list[str], dataset: list[str] | None, to: str | None, dry_run: bool) -> Answer:
        from gengram.loading.fetch import fetch, tabulate_fetched

        fetched = fetch(ids, dataset or [], to, dry_run)
        lacking.extend(word for one in fetched for word in one["missing"])
        return Answer(tabulate_fetched(fetched), {"repositories": fetched, "complete": not lacking})

    return run(parser, arguments, work) or int(bool(lacking))


__all__ = ["models_fetch"]
