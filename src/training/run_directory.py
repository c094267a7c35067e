"""The directories of a run, and where its weights come from."""

import contextlib
import itertools
import os
import sys

from ..command_line import invocation
from ..data import processes
from ..model_files import model_directory
from . import train_config


def of(config):
    """Where checkpoints and events go."""
    return os.path.join(config.checkpoint_dir, config.run_name)


def of_best(config):
    """Where --save_best keeps its model."""
    return os.path.join(of(config), 'best')


def of_samples(config):
    return os.path.join('samples', config.run_name)


def model_dir_of(config):
    """The directory that describes the model: of the run that is gone on from, or --model_name's.

    Raises ValueError: no such directory, or files missing in it.
    """
    directory = os.path.dirname(_earlier_checkpoint(config) or '')
    if directory and model_directory.has(directory, model_directory.ARCHITECTURE):
        return directory
    whole = len(config.sizes) == len(train_config.SIZES)  # hparams.json would have nothing to add
    needs = model_directory.VOCABULARY if whole else model_directory.ARCHITECTURE
    return model_directory.find(config.model_name, config.models_dir, needs)


def checkpoint_to_restore(config, model_dir):
    """The prefix that --restore_from means; None for weights from scratch.

    Raises ValueError where there is no checkpoint.
    """
    if config.restore_from == 'scratch':
        return None
    if prefix := _earlier_checkpoint(config) or model_directory.latest(model_dir):
        return prefix
    raise ValueError(
        f'{model_dir} has no checkpoint. Download one: {invocation.command("download")} NAME; '
        'or begin with random weights: --restore_from scratch'
    )


def _earlier_checkpoint(config):
    """The prefix of the run's own or of a path; None where a run begins from a model or scratch."""
    where = config.restore_from
    if where in ('scratch', 'fresh'):
        return None
    if where == 'latest':
        return model_directory.latest(of(config))
    without_extension = os.path.splitext(where)[0]
    for prefix in (model_directory.latest(where), where, without_extension):
        if prefix and os.path.exists(f'{prefix}.index'):
            return prefix
    raise ValueError(
        f'--restore_from {where}: no checkpoint is there. It may be latest, fresh, scratch, a run '
        'directory such as checkpoint/run1, or a checkpoint such as checkpoint/run1/model-1000'
    )


@contextlib.contextmanager
def alone(config):
    """Keep other processes from training the same run, as long as this one lives.

    Raises ValueError: another one does, whose number is told.
    """
    folder = config.checkpoint_dir or os.curdir
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f'.{config.run_name}.lock')
    with processes.locked(path) as holder:
        if holder:
            raise ValueError(
                f'{of(config)} is being trained by {holder}; give this run another --run_name'
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the folder only where nothing else is in it
                os.remove(path)
                os.rmdir(folder)


def set_aside(config):
    """Rename the directories of an earlier run, so that nothing in them is overwritten."""
    checkpoints, samples = of(config), of_samples(config)
    has_samples = os.path.isdir(samples) and os.listdir(samples)
    has_model = os.path.exists(os.path.join(checkpoints, 'hparams.json'))  # maybe another's
    has_model = has_model or model_directory.latest(checkpoints)
    has_model = has_model or model_directory.latest(of_best(config))
    for directory, is_used in ((checkpoints, has_model), (samples, has_samples)):
        if is_used:
            rename(directory)


def rename(directory):
    """Give a directory the first free name like its own, run1.1, and say so."""
    number = next(n for n in itertools.count(1) if not os.path.exists(f'{directory}.{n}'))
    os.rename(directory, f'{directory}.{number}')
    print(f'{directory} is kept as {directory}.{number}', file=sys.stderr)


def goes_on(config, prefix):
    """Whether a run that begins from the checkpoint `prefix` goes on behind it: it is its own."""
    return bool(prefix) and prefix == model_directory.latest(of(config))
