"""A run, as gpt-2-simple's programs ask for it."""

import dataclasses
import json
import os

from ..command_line import flags, quiet
from ..data import whole_files
from ..model_files import model_directory
from ..training import run_directory, train_config
from . import datasets, session

PLAN = 'gpt_2_simple.json'  # in a run's directory


def finetune(
    sess,
    dataset,
    steps=-1,
    model_name='124M',
    model_dir='models',
    combine=50000,
    batch_size=1,
    learning_rate=0.0001,
    accumulate_gradients=5,
    restore_from='latest',
    run_name='run1',
    checkpoint_dir='checkpoint',
    sample_every=100,
    sample_length=1023,
    sample_num=1,
    multi_gpu=False,
    save_every=1000,
    print_every=1,
    max_checkpoints=1,
    use_memory_saving_gradients=False,
    only_train_transformer_layers=False,
    optimizer='adam',
    overwrite=False,
    reuse=False,
    **options,
):
    """Fine-tune a model on text; the session has it then.

    Args:
        dataset: text, tables, or what encode_dataset wrote: a file, a directory or a pattern.
        steps: how many to make; the same call makes those that are left where it was cut off.
            0 or less goes on until it is interrupted.
        accumulate_gradients: how many batches there are in a step; 0 is 1.
        restore_from: latest (of the run, else the model), fresh (the model), or a path.
        run_name: the folder in `checkpoint_dir`; it may have folders in front.
        multi_gpu: train on all GPUs, each with a batch of its own.
        max_checkpoints: how many of those that this call writes stay; 0 or None keeps all.
        overwrite: let earlier ones go, too.
        reuse: means nothing here.
        options: the other flags of `gpt2 train`: val_every, seed, encoding, …

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: an option that cannot be that, no text, too little memory; nothing on disk has
            changed then.
        OSError: a checkpoint could not be written.
    """
    session.require(sess)
    folders, run_name = os.path.split(os.path.normpath(run_name))
    config = flags.filled(
        train_config.TrainConfig,
        {
            'dataset': os.fspath(dataset),
            'steps': _number(steps),
            'model_name': model_name,
            'models_dir': os.fspath(model_dir),
            'combine': combine,
            'batch_size': batch_size,
            'learning_rate': learning_rate,
            'accumulate_gradients': accumulate_gradients or 1,
            'restore_from': os.fspath(restore_from),
            'run_name': run_name,
            'checkpoint_dir': os.path.normpath(os.path.join(checkpoint_dir, folders)),
            'sample_every': sample_every,
            'sample_length': sample_length,
            'sample_num': sample_num,
            'strategy': 'auto' if multi_gpu else 'none',
            'save_every': save_every,
            'print_every': print_every,
            'max_checkpoints': max_checkpoints or 0,
            'keep_earlier': not overwrite,
            'memory_saving_gradients': use_memory_saving_gradients,
            'only_train_transformer_layers': only_train_transformer_layers,
            'optimizer': optimizer,
            **datasets.ROWS,
            **options,
        },
    )
    _run(sess, config)


def _number(steps):
    """As many steps as finetune is asked for, 0 where there is no end."""
    try:
        return max(0, int(steps or 0))
    except (TypeError, ValueError):
        raise ValueError(
            f'steps is {steps!r}; it must be a whole number, and -1 has no end'
        ) from None


def _run(sess, config):
    """Train, and let the session have what comes of it."""
    if config.optimizer == 'sgd':
        # The gradients of a step are added there, and their mean is taken here. To Adam that is
        # the same; plain steps are longer there, and a program's learning rate suits these.
        rate = config.learning_rate * config.accumulate_gradients
        config = dataclasses.replace(config, learning_rate=rate)
    quiet.import_tensorflow()
    from ..model_files import checkpoint
    from ..training import progress, training

    prefix = run_directory.checkpoint_to_restore(config, _directory_of_model(config))
    made = checkpoint.counter_of(prefix) if run_directory.goes_on(config, prefix) else 0
    asked, directory = config.steps, run_directory.of(config)
    config = dataclasses.replace(config, steps=_last_step(directory, made, asked, config.dataset))

    def shown(directory, first, last):  # the run begins: nothing is left that may be refused
        sess.release()
        plan = {'steps': asked, 'last_step': last, 'dataset': config.dataset}
        _write_plan(directory, plan)
        return progress.shown(directory, first, last)

    with session.eagerly():
        training.train(config, shown)
    if prefix := model_directory.latest(directory):
        sess.hold(directory, prefix)


def _directory_of_model(config):
    """run_directory.model_dir_of; where the model is not there, FileNotFoundError."""
    begins = config.restore_from == 'fresh' or not model_directory.latest(run_directory.of(config))
    if config.restore_from in ('latest', 'fresh') and begins:
        session.find(config.model_name, config.models_dir, model_directory.ARCHITECTURE)
    return run_directory.model_dir_of(config)


def _last_step(directory, made, steps, dataset):
    """The number of the last step of a call that asks for as many `steps` more; 0 for no end.

    Where the same call was cut off, it ends where that would have ended.
    """
    if not steps:
        return 0
    plan = _plan(os.path.join(directory, PLAN)) if made else {}
    last = plan.get('last_step')
    same = plan == {'steps': steps, 'last_step': last, 'dataset': dataset}
    return last if same and type(last) is int and made < last else made + steps


def _plan(path):
    try:
        with open(path, encoding='utf-8') as file:
            plan = json.load(file)
    except (OSError, ValueError, RecursionError):  # there is none, or a damaged one: no matter
        return {}
    return plan if isinstance(plan, dict) else {}


def _write_plan(directory, plan):
    os.makedirs(directory, exist_ok=True)
    with whole_files.complete(os.path.join(directory, PLAN)) as file:
        file.write(json.dumps(plan).encode())
