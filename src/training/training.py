"""Fine-tuning: which model, which text, which devices."""

import contextlib
import dataclasses
import secrets
import sys
import zlib

import tensorflow as tf

from ..gradients import small_model
from ..model_files import checkpoint
from . import (
    dataset,
    distribution,
    initial_model,
    memory,
    progress,
    run_directory,
    train_config,
    training_loop,
)

DEEP = 12  # layers; deeper models save memory without being told to
# What may differ between the machines of a run.
PLACES = ('dataset', 'val_dataset', 'models_dir', 'model_name', 'restore_from')


def train(config, shown=progress.shown):
    """Fine-tune until --steps, Ctrl-C or SIGTERM, each of which saves.

    Args:
        config: a train_config.TrainConfig.
        shown: a function that gives a progress.Progress, from what that takes.

    Raises:
        ValueError: the model, the dataset or a flag does not fit, and nothing on disk has changed;
            or the memory is too small.
        OSError: the last checkpoint could not be written.
    """
    with contextlib.suppress(RuntimeError):  # where the GPUs are in use by this process already
        for gpu in tf.config.list_physical_devices('GPU'):
            tf.config.experimental.set_memory_growth(gpu, True)  # leave the rest to others
    devices = distribution.devices('none' if config.dry_run else config.strategy)
    with devices.as_one():
        initial = initial_model.of(config)
        config = _fitted(config, initial.hparams)
        memory.limit_malloc(config.memory_saving_gradients)
        if small_model.suits(config, initial.hparams) and config.strategy in ('auto', 'none'):
            small_model.use_cores()
        if config.dry_run:
            print('\n'.join(memory.report(initial.hparams, config)))
            return
        try:
            _run(_with_the_chiefs_seed(config, devices), initial, devices, shown)
        except tf.errors.ResourceExhaustedError:
            raise ValueError(
                'The memory is too small for this. What needs less: --memory_saving_gradients, '
                'a smaller --batch_size or --seq_length, --optimizer sgd'
            ) from None


def _run(config, initial, devices, shown):
    prefix = initial.checkpoint(config)
    models = devices.on_each(lambda i: initial.restored(prefix, config))
    print('Loading dataset...', flush=True)
    tokens = dataset.load(initial.encoder, config)
    run = training_loop.Run(config, devices, initial, models, tokens, shown)
    print('dataset has', run.state.sampler.total_size, 'tokens')
    _require_same(config, run.state, prefix, devices)
    # Now, when nothing is left that may be refused: until here nothing is written.
    with run_directory.alone(config) if devices.is_chief else contextlib.nullcontext():
        if initial.checkpoint(config) != prefix:
            raise ValueError(f'{run_directory.of(config)} was trained meanwhile; start again')
        run.resume(prefix)
        print('Training...', flush=True)
        run.loop()


def _fitted(config, hparams):
    """The config with what the model's size decides: its window, and whether it is deep."""
    changes = {'seq_length': min(config.seq_length, hparams.n_ctx)}
    if config.sample_length > hparams.n_ctx:
        if config.sample_length != train_config.TrainConfig.sample_length:
            raise ValueError(f"Can't get samples longer than window size: {hparams.n_ctx}")
        changes['sample_length'] = hparams.n_ctx - 1
    if hparams.n_layer > DEEP and not config.memory_saving_gradients:
        print(f'{hparams.n_layer} layers: turning on --memory_saving_gradients', file=sys.stderr)
        changes['memory_saving_gradients'] = True
    return dataclasses.replace(config, **changes)


def _with_the_chiefs_seed(config, devices):
    """All replicas draw the same windows, and begin with the same random weights."""
    if devices.replicas == 1:
        return config
    seed = secrets.randbits(31) if config.seed is None else config.seed
    return dataclasses.replace(config, seed=devices.of_all(seed)[0])


def _require_same(config, state, prefix, devices):
    """Raise ValueError where another worker would train on other weights, text or flags."""
    if devices.workers == 1:
        return
    flags = dataclasses.asdict(config)
    flags = {name: value for name, value in flags.items() if name not in PLACES}
    weights = 0
    for variable in state.trained.values():
        weights = zlib.crc32(variable.numpy().tobytes(), weights)
    devices.require_same('The last checkpoint', checkpoint.counter_of(prefix or ''))
    devices.require_same('The checksum of the flags', zlib.crc32(repr(flags).encode()))
    size, checksum = state.dataset
    devices.require_same('The size of the dataset', size)
    devices.require_same('The checksum of the dataset', checksum)
    devices.require_same('The checksum of the weights', weights)
