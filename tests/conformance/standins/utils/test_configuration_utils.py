"""In the place of transformers' tests of `PreTrainedConfig`: the fields that every configuration has to take."""

# Each differs from its default in `PreTrainedConfig`, so that one that was dropped shows.
config_common_kwargs = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["GenomeModel"],
    "finetuning_task": "splice_sites",
    "id2label": {0: "without", 1: "donor", 2: "acceptor"},
    "label2id": {"without": 0, "donor": 1, "acceptor": 2},
    "problem_type": "multi_label_classification",
}
