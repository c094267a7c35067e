"""When the weights of a run may be saved, and what becomes of those that turn out to be bad."""

import os
import sys

import numpy as np
import tensorflow as tf

from ..gradients import lora
from ..model_files import checkpoint, model_directory, rotation
from . import run_directory


class Saver:
    """What writes the checkpoints of a run.

    A checkpoint is written before the step that first computes a loss with its weights. Until then
    none of the older ones goes; and where that loss is not a number, it is withdrawn.

    Attributes:
        trusted: whether the last loss and its gradient were numbers.
    """

    def __init__(self, config, state, files):
        self.config, self.state = config, state
        self.files = files  # of the model's directory, for the run's
        self.directory = run_directory.of(config)
        self.trusted, self.untried, self.validated = True, None, None
        self.earlier = None  # the names of those that --keep_earlier leaves

    def save(self, counter, ends=False):
        """Write `model-<counter>`, unless its weights are known to be bad, which is said.

        Args:
            ends: whether the run ends here, so that no step will try the weights.
        """
        name = f'model-{counter}'
        if problem := self._problem():
            last = model_directory.latest(self.directory)
            there = f'the last good one is {last}' if last else 'there is no good one'
            print(f'{name} is not saved: {problem}; {there}', file=sys.stderr)
            return
        print('Saving', os.path.join(self.directory, name), flush=True)
        if self.earlier is None:  # not before: until a run begins, an older one may lie there
            self.earlier = rotation.kept(self.directory) if self.config.keep_earlier else []
        write_more = self._write_adapters if self.config.lora_rank else lambda prefix: None
        checkpoint.save(
            self.directory, counter, self.plain_params(), self.state.tensors(), self.files,
            write_more, keep=None,
        )  # fmt: skip
        self.untried = name
        if ends:
            self._rotate()

    def _problem(self):
        if not self.trusted:
            return 'its loss or gradient is not a number'
        squares = [float(tf.nn.l2_loss(variable)) for variable in self.state.trained.values()]
        return '' if np.isfinite(sum(squares)) else 'its weights are too large to compute with'

    def tried(self, finite):
        """Tell whether the loss of a step, and its gradient, were numbers."""
        self.trusted = finite
        if self.untried and finite:
            self._rotate()
        elif self.untried:
            before = rotation.withdraw(self.directory, self.untried)
            there = f'is taken back; {before} is the last one' if before else 'is the only one'
            print(f'{self.untried} gives no loss that is a number, and {there}', file=sys.stderr)
        self.untried = None

    def validated_at(self, counter):
        """Tell that the weights before step `counter` have been validated, and gave a number."""
        self.validated = f'model-{counter}'

    def _rotate(self):
        protected = [*self.earlier, *([self.validated] if self.config.save_best else [])]
        rotation.rotate(self.directory, self.config.max_checkpoints, protected)

    def save_best(self):
        directory, counter = run_directory.of_best(self.config), self.state.counter
        print('Saving', os.path.join(directory, f'model-{counter}'), file=sys.stderr)
        checkpoint.save(directory, counter, self.plain_params(), None, self.files, keep=1)

    def plain_params(self):
        """What checkpoint.save takes: the parameters, with adapters merged into them."""
        params = self.state.lm.params
        return lora.merged(params, self.config.lora_scale) if self.config.lora_rank else params

    def _write_adapters(self, prefix):
        alpha = self.config.lora_scale * self.config.lora_rank
        lora.write(prefix + lora.SUFFIX, self.state.lm.params, alpha, self.state.base or '')
