"""Fine-tuning: which weights, which text, which settings."""

import dataclasses
import os
import sys

import tensorflow as tf

from . import (
    checkpoint,
    encoder,
    load_dataset,
    lora,
    memory,
    model,
    model_directory,
    run_directory,
    train_config,
    train_step,
    training_loop,
)

DEEP = 12  # layers; deeper models save memory without being told to


def train(config):
    """Fine-tune until --steps, Ctrl-C or SIGTERM, each of which saves.

    Raises:
        ValueError: the model, the dataset or a flag does not fit, and nothing on disk has changed;
            or the memory is too small.
        OSError: the last checkpoint could not be written.
    """
    memory.give_back()
    for gpu in tf.config.list_physical_devices('GPU'):
        tf.config.experimental.set_memory_growth(gpu, True)  # leave the rest to others
    model_dir = model_directory.find(
        config.model_name, config.models_dir, model_directory.ARCHITECTURE
    )
    hparams = checkpoint.read_hparams(model_dir)
    config = _fitted(config, hparams)
    if config.dry_run:
        print('\n'.join(memory.report(hparams, config)))
        return
    enc = encoder.get_encoder('', model_dir)
    prefix = run_directory.checkpoint_to_restore(config, model_dir)
    lm, base = _restored(prefix, hparams, config)

    print('Loading dataset...', flush=True)
    chunks = _load(enc, config.dataset, config)
    val_chunks = chunks
    if config.val_every and config.val_dataset:
        val_chunks = _load(enc, config.val_dataset, config)
    state = train_step.TrainState(lm, config, chunks, base)
    run = training_loop.Run(config, state, enc, model_dir, val_chunks)
    print('dataset has', state.sampler.total_size, 'tokens')
    run.resume(prefix)
    print('Training...', flush=True)
    try:
        run.loop()
    except tf.errors.ResourceExhaustedError:
        raise ValueError(
            'The memory is too small for this. What needs less: --memory_saving_gradients, '
            'a smaller --batch_size or --seq_length, --optimizer sgd'
        ) from None


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


def _restored(prefix, hparams, config):
    """The model to train, and the prefix of the checkpoint that its weights came from, or None."""
    adapters = None
    if config.lora_rank and prefix and os.path.exists(prefix + lora.SUFFIX):
        saved = lora.read(prefix + lora.SUFFIX)
        if lora.can_go_on(saved, config.lora_rank, config.lora_scale):
            prefix, adapters = saved['base'], prefix + lora.SUFFIX
    variable = tf.Variable
    if config.lora_rank:
        variable = lora.frozen(tf.dtypes.as_dtype(config.dtype))
    if prefix is None:
        print('Starting from random weights', file=sys.stderr)
        params = model.init_params(hparams, config.seed, variable)
    else:
        print('Loading checkpoint', prefix, flush=True)
        params = checkpoint.load(prefix, hparams, variable)
    if config.lora_rank:
        lora.add_adapters(params, config.lora_rank, config.seed)
    if adapters:
        lora.restore(params, adapters)
    return model.GPT2(hparams, params), prefix


def _load(enc, path, config):
    return load_dataset.load_dataset(
        enc, path, config.combine, config.encoding, config.literal_endoftext
    )
