"""Make a model: the run of `gengram pretrain`, its stages, logs, plan and limits."""
