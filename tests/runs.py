"""Runs of the trainer in this process, on a tiny model, and what they left behind."""

import pathlib
import re

import numpy as np
import tensorflow as tf

from src import model
from src.model_files import checkpoint
from src.training import train_config, training


def train(**flags):
    settings = {
        'dataset': 'text', 'model_name': 'tiny', 'seq_length': 16, 'batch_size': 2, 'steps': 3,
        'learning_rate': 0.001, 'seed': 1, 'sample_every': 0, 'save_every': 0, **flags,
    }  # fmt: skip
    training.train(train_config.TrainConfig(**settings))


def weights(prefix):
    hparams = checkpoint.read_hparams('models/tiny')
    return {n: v.numpy() for n, v in model.by_name(checkpoint.load(prefix, hparams)).items()}


def same(values, others):
    return all(np.array_equal(values[name], others[name]) for name in values)


def scalars(tag, run='run1'):
    """What was recorded for TensorBoard: {step: value}."""
    recorded = {}
    for path in sorted(pathlib.Path('checkpoint', run).glob('events.*')):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                if value.tag == tag:
                    recorded[event.step] = value.simple_value
    return recorded


def steps_of(output):
    """The numbers of the steps that were printed."""
    return [int(number) for number in re.findall(r'^\[(\d+) \|', output, re.MULTILINE)]
