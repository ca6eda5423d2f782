"""Trainers at tiny sizes: networks of some ten thousand numbers, a few steps."""

from flowpaint import seams
from flowpaint.training.loop import Training
from flowpaint.training.records import Records

HOW = {"steps": 4, "batch": 3, "warmup": 1, "save_every": 2, "log_every": 1, "show_every": 4}
LOOKS = ("sepia", "night", "neon")

AUTOENCODER = {"part": "autoencoder", "widths": [8, 8, 16, 16], "channels": 4, "size": 32}
IMAGE = {
    "part": "image", "widths": [16, 32], "head": 8, "groups": 8, "text_width": 16, "text_layers": 1, "crop": 4,
    "looks": list(LOOKS), "late": 0.5,
}  # fmt: skip
CONTROL = {"part": "control", "embedding": [4, 4, 8, 8], "crop": 4, "looks": list(LOOKS)}


def quiet(*_):
    pass


def started(recipe, data, run, **how):
    """A training of the trainer that `recipe` describes."""
    trainer = seams.from_dict({"kind": "trainer", "optimisation": {"part": "adamw", **HOW, **how}, **recipe})
    return Training(trainer(data), trainer.optimisation, data=data, records=Records(run, seams.to_dict(trainer)))


def exported(training):
    """The folder with the weights of a training that is run to its end."""
    folder = training.records.folder / "export"
    training.task.export(training.run(quiet, quiet), folder)
    return folder
