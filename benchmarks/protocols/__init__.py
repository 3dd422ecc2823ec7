"""How a model is judged on a task: probes of frozen models, trainings, and models that know little."""
