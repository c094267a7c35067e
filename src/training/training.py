"""Fine-tuning: which weights, which text, which settings."""

import dataclasses
import os
import secrets
import sys
import zlib

import tensorflow as tf

from .. import encoder, load_dataset, model
from ..gradients import lora, small_model
from ..model_files import architecture, checkpoint, model_directory
from . import (
    distribution,
    memory,
    run_directory,
    train_config,
    train_step,
    training_loop,
    validation,
)

DEEP = 12  # layers; deeper models save memory without being told to
# What may differ between the machines of a run.
PLACES = ('dataset', 'val_dataset', 'models_dir', 'model_name', 'restore_from')


def train(config):
    """Fine-tune until --steps, Ctrl-C or SIGTERM, each of which saves.

    Raises:
        ValueError: the model, the dataset or a flag does not fit, and nothing on disk has changed;
            or the memory is too small.
        OSError: the last checkpoint could not be written.
    """
    for gpu in tf.config.list_physical_devices('GPU'):
        tf.config.experimental.set_memory_growth(gpu, True)  # leave the rest to others
    devices = distribution.devices('none' if config.dry_run else config.strategy)
    with devices.as_one():
        _train(config, devices)


def _train(config, devices):
    model_dir = run_directory.model_dir_of(config)
    plain = encoder.get_encoder('', model_dir)
    enc = plain.with_special_tokens(config.special_tokens)
    hparams = architecture.sizes(config, model_dir, enc)
    config = _fitted(config, hparams)
    memory.limit_malloc(config.memory_saving_gradients)
    if small_model.suits(config, hparams) and config.strategy in ('auto', 'none'):
        small_model.use_cores()
    if config.dry_run:
        print('\n'.join(memory.report(hparams, config)))
        return
    config = _with_the_chiefs_seed(config, devices)
    prefix = run_directory.checkpoint_to_restore(config, model_dir)
    _require_trainable_embeddings(config, prefix, plain, enc)
    source = prefix and checkpoint.read_hparams(model_dir)
    models = devices.on_each(lambda i: _restored(prefix, hparams, config, source))

    print('Loading dataset...', flush=True)
    chunks = _load(enc, config.dataset, config)
    val_chunks = chunks
    if config.val_split:
        chunks, val_chunks = validation.split(chunks, config.val_split)
    elif config.val_every and config.val_dataset:
        val_chunks = _load(enc, config.val_dataset, config)
    end = _end_of_texts(enc, config.end_token) if config.pack or config.document_mask else None
    states = devices.on_each(
        lambda i: train_step.TrainState(models[i][0], config, chunks, models[i][1], end)
    )
    files = architecture.files(model_dir, hparams, enc)
    run = training_loop.Run(config, states, enc, files, val_chunks, devices)
    print('dataset has', run.state.sampler.total_size, 'tokens')
    _require_same(config, run.state, prefix, devices)
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
    devices.require_same('The size of the dataset', state.sampler.total_size)
    devices.require_same('The checksum of the weights', weights)


def _require_trainable_embeddings(config, prefix, plain, enc):
    """Raise ValueError where a run has no place for the special tokens that `plain` has not."""
    names = ', '.join(enc.decode([i]) for i in enc.decoder if i not in plain.decoder)
    run = run_directory.of(config)
    if names and prefix and prefix == model_directory.latest(run):
        # With more tokens than now, its older checkpoints could not be read again.
        raise ValueError(
            f'The vocabulary of {run} has no {names}, and stays as it is. Begin a run of another '
            f'name: --restore_from {run} --run_name NAME'
        )
    for flag in ('lora_rank', 'only_train_transformer_layers'):
        if names and getattr(config, flag):
            raise ValueError(
                f'--{flag} would leave the embedding of {names} as it is, but that has to be '
                'learnt; train without it first'
            )


def _restored(prefix, hparams, config, source=None):
    """The model to train, and the prefix of the checkpoint that its weights came from, or None.

    Args:
        source: the HParams of that checkpoint, which may have fewer tokens.
    """
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
        params = checkpoint.load(prefix, source or hparams, variable)
        if params['wte'].shape[0] < hparams.n_vocab:
            wte = architecture.with_rows(params['wte'], hparams.n_vocab, config.seed)
            params['wte'] = variable(wte, name='model/wte')
    if config.lora_rank:
        lora.add_adapters(params, config.lora_rank, config.seed)
    if adapters:
        lora.restore(params, adapters)
    return model.GPT2(hparams, params), prefix


def _end_of_texts(enc, text):
    """The token that ends a text. Raises ValueError where the vocabulary has none for that."""
    tokens = enc.encode_to_numpy(text)
    if len(tokens) != 1:
        raise ValueError(
            f'{text} is {len(tokens)} tokens in this vocabulary; --pack and --document_mask need '
            'one token that ends a text. Train without them, or with another vocabulary'
        )
    return int(tokens[0])


def _load(enc, path, config):
    return load_dataset.load_dataset(enc, path, **config.dataset_options())
