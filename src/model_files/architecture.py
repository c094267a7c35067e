"""What a model is before it has weights: its sizes, its vocabulary, and the files of both."""

import dataclasses
import json
import os

import numpy as np

from .. import model
from . import checkpoint, model_directory


def sizes(config, model_dir, enc):
    """The HParams of a model to train: those of `model_dir`, of the flags, and of the vocabulary.

    Where wte has more rows than there are tokens, it keeps them; tokens are added into these first.

    Raises ValueError: hparams.json does not describe a model, or sizes do not go together.
    """
    hparams = model.default_hparams()
    if os.path.exists(os.path.join(model_dir, 'hparams.json')):
        hparams = checkpoint.read_hparams(model_dir)
    hparams.override_from_dict(config.sizes)
    return dataclasses.replace(hparams, n_vocab=max(hparams.n_vocab, max(enc.decoder) + 1))


def files(model_dir, hparams, enc):
    """{name: content} of what makes a run's directory a model's; as they are where they fit."""
    contents = {}
    for name in model_directory.ARCHITECTURE:
        path = os.path.join(model_dir, name)
        if os.path.exists(path):
            with open(path, 'rb') as file:
                contents[name] = file.read()
    if 'hparams.json' not in contents or checkpoint.read_hparams(model_dir) != hparams:
        contents['hparams.json'] = json.dumps(dataclasses.asdict(hparams)).encode()
    if json.loads(contents['encoder.json']) != enc.encoder:
        contents['encoder.json'] = json.dumps(enc.encoder).encode()
    return contents


def with_rows(wte, n_vocab, seed=None):  # [tokens, features] -> [n_vocab, features], an array
    """An embedding with more rows: the old ones as they are, new ones near the mean of these.

    The logit of a new token is about the mean of all logits then, and its probability at most the
    mean one. Near 0 it may be the likeliest by far, because the logits of a trained GPT-2 are far
    below 0 (Hewitt 2021, nlp.stanford.edu/~johnhew/vocab-expansion.html). N(0, 0.02), as in
    model.init_params, tells new tokens apart.
    """
    old = wte.numpy()
    random = np.random.default_rng(seed)
    noise = random.standard_normal([n_vocab - len(old), old.shape[1]], np.float32)
    return np.concatenate([old, old.mean(axis=0) + np.float32(0.02) * noise])
