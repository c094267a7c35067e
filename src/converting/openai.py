"""Model directories, OpenAI's and the trainer's: what everything else here reads and writes."""

import contextlib
import dataclasses
import json
import math
import os

from .. import encoder
from ..model_files import checkpoint, model_directory
from ..training import progress
from . import portable, vocabularies

SMALL = 2**26  # bytes


@contextlib.contextmanager
def opened(directory, prefix):
    """The portable.Model of a checkpoint. Raises ValueError: missing or damaged files."""
    hparams = checkpoint.read_hparams(directory)
    enc = encoder.get_encoder('', directory)
    model_directory.require_vocabulary(directory, enc.decoder, hparams.n_vocab)
    counter = checkpoint.counter_of(prefix)
    with checkpoint.reading(prefix, hparams) as read:
        yield portable.Model(
            directory, hparams, enc, lambda name: read(name).numpy(), counter,
            told=tuple(portable.rows_without_token(directory, hparams, enc)),
            known=tuple(_known(directory, counter)),
        )  # fmt: skip


def _known(directory, counter):
    """Sentences on the run that made a model."""
    if counter:
        yield f'It was trained for {counter:,} steps.'
    path = progress.path_in(directory)
    if not os.path.exists(path):
        return
    with contextlib.suppress(OSError, ValueError, KeyError):  # of a run that was cut off
        curves = progress.curves(path)
        for name, what in (('average', 'training'), ('val_loss', 'validation')):
            before = [step for step in curves[name] if step <= counter]
            if before:
                loss = curves[name][max(before)]
                yield f'Its {what} loss at step {max(before):,} was {loss:.2f} nats per token.'


def write(directory, a_model):
    """Write a model directory."""
    files = vocabularies.in_openais_files(a_model.encoder)
    files['hparams.json'] = json.dumps(dataclasses.asdict(a_model.hparams))
    contents = {name: text.encode() for name, text in files.items()}
    checkpoint.save(directory, a_model.counter, _branches(a_model), None, contents)


def _branches(a_model):
    """The tree of parameters in parts, each of as many bytes as the largest tensor, or SMALL.

    A part is a file of the checkpoint, and is in memory as a whole.
    """
    shapes = portable.shapes_of(a_model.hparams)
    largest = max(SMALL // 4, *map(math.prod, shapes.values()))
    branch, size = {}, 0
    arrays = portable.weights(a_model, shapes)
    for name, shape in shapes.items():
        size += math.prod(shape)
        if branch and size > largest:
            yield branch
            branch, size = {}, math.prod(shape)
        place = branch
        *path, leaf = name.split('/')[1:]
        for key in path:
            place = place.setdefault(key, {})
        place[leaf] = next(arrays)
    arrays.close()
    yield branch
