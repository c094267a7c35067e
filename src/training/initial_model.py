"""Which model a run begins with: one question, whose answer is sizes, vocabulary and weights."""

import dataclasses
import os
import sys

import tensorflow as tf

from .. import encoder, model
from ..gradients import lora
from ..model_files import architecture, checkpoint, model_directory
from . import run_directory


@dataclasses.dataclass(frozen=True)
class InitialModel:
    """What is known of the model before its weights are read."""

    directory: str  # a model's, or an earlier run's, that describes it
    hparams: model.HParams
    encoder: encoder.Encoder
    new_tokens: list  # texts of special tokens that the directory's vocabulary has not

    def files(self):
        """{name: content} of what makes a run's directory a model's."""
        return architecture.files(self.directory, self.hparams, self.encoder)

    def checkpoint(self, config):
        """The prefix of the checkpoint with the weights; None for random ones.

        Raises ValueError: there is none, or its run has no place for the new tokens.
        """
        prefix = run_directory.checkpoint_to_restore(config, self.directory)
        names, run = ', '.join(self.new_tokens), run_directory.of(config)
        if names and prefix and prefix == model_directory.latest(run):
            # With more tokens than now, its older checkpoints could not be read again.
            raise ValueError(
                f'The vocabulary of {run} has no {names}, and stays as it is. Begin a run of '
                f'another name: --restore_from {run} --run_name NAME'
            )
        return prefix

    def restored(self, prefix, config):
        """The model.GPT2 to train, and the prefix of the checkpoint that its weights came from.

        Args:
            prefix: what `checkpoint` gave. Where adapters lie there, the weights are their base's.
        """
        adapters = None
        if config.lora_rank and prefix and os.path.exists(prefix + lora.SUFFIX):
            saved = lora.read(prefix + lora.SUFFIX)
            if lora.can_go_on(saved, config.lora_rank, config.lora_scale):
                prefix, adapters = saved['base'], prefix + lora.SUFFIX
        variable = tf.Variable
        if config.lora_rank:
            variable = lora.frozen(tf.dtypes.as_dtype(config.dtype))
        params = self._params(prefix, variable, config.seed)
        if config.lora_rank:
            lora.add_adapters(params, config.lora_rank, config.seed)
        if adapters:
            lora.restore(params, adapters)
        return model.GPT2(self.hparams, params), prefix

    def _params(self, prefix, variable, seed):
        if prefix is None:
            print('Starting from random weights', file=sys.stderr)
            return model.init_params(self.hparams, seed, variable)
        print('Loading checkpoint', prefix, flush=True)
        params = checkpoint.load(prefix, checkpoint.read_hparams(self.directory), variable)
        if params['wte'].shape[0] < self.hparams.n_vocab:
            wte = architecture.with_rows(params['wte'], self.hparams.n_vocab, seed)
            params['wte'] = variable(wte, name='model/wte')
        return params


def of(config):
    """The InitialModel that a train_config.TrainConfig asks for.

    Raises ValueError: no such model, sizes that do not go with its vocabulary, or special tokens
        that would not be learnt.
    """
    directory = run_directory.model_dir_of(config)
    plain = encoder.get_encoder('', directory)
    if config.restore_from != 'scratch':
        n_vocab = checkpoint.read_hparams(directory).n_vocab
        model_directory.require_vocabulary(directory, plain.decoder, n_vocab)
    enc = plain.with_special_tokens(config.special_tokens)
    new_tokens = [enc.decode([i]) for i in enc.decoder if i not in plain.decoder]
    for flag in ('lora_rank', 'only_train_transformer_layers'):
        if new_tokens and getattr(config, flag):
            raise ValueError(
                f'--{flag} would leave the embedding of {", ".join(new_tokens)} as it is, but that '
                'has to be learnt; train without it first'
            )
    return InitialModel(directory, architecture.sizes(config, directory, enc), enc, new_tokens)
