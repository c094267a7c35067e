"""One step of training: the state that it changes, and the function that changes it."""

import json
import math
import secrets
import sys

import tensorflow as tf

from .. import accumulate, load_dataset, model
from ..data import packing
from ..gradients import backpropagation, custom_gradients, lean_block, masks, small_model
from . import dataset, distribution, optimizer

OPTIMIZERS = {
    'adam': optimizer.Adam,
    'adamw': optimizer.Adam,
    'muon': optimizer.Muon,
    'adafactor': optimizer.Adafactor,
    'sgd': optimizer.SGD,
}
WITH_ADAM = ('adam', 'adamw', 'muon')

# Numbers that a state counts with, and what comes out where it is none.
COUNTS = ('seed', 'counter', 'updates', 'updates_before', 'epoch', 'drawn')
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)

FIRST_SCALE, STEPS_TO_DOUBLE = 2.0**15, 2000  # of the loss in float16


class TrainState:
    """Everything that changes while training, and all that a resume needs to know."""

    def __init__(self, lm, config, chunks, base=None, end=None):
        self.lm = lm
        self.base = base  # the prefix of the checkpoint beside whose weights adapters stand
        self.adapters = [config.lora_rank, config.lora_scale, base] if config.lora_rank else None
        self.seed = secrets.randbits(31) if config.seed is None else config.seed
        self.end = end if config.document_mask else None  # what hides what is before it
        if config.pack:
            self.sampler = packing.PackedSampler(chunks, end, self.seed)
        else:
            self.sampler = load_dataset.Sampler(chunks, seed=self.seed)
        self.counter = 1  # the number of the next step, as it is printed
        self.updates = tf.Variable(0, dtype=tf.int64)  # how often the weights have changed,
        self.updates_before = tf.Variable(0, dtype=tf.int64)  # before the optimizer's slots began
        self.dataset = dataset.fingerprint(chunks)
        self.avg_loss = (0.0, 0.0)  # decaying sums of the losses and of their weights
        self.best_loss, self.worse = math.inf, 0  # of validation; how many came since
        every_part = not config.only_train_transformer_layers
        self.trained = {
            name: variable
            for name, variable in model.by_name(lm.params).items()
            if ('/lora/' in name if config.lora_rank else '/h' in name or every_part)
        }
        weight_decay = config.weight_decay
        if weight_decay is None:
            weight_decay = 0.01 if config.optimizer == 'adamw' else 0.0
        options = {'beta2': config.adam_beta2} if config.optimizer in WITH_ADAM else {}
        self.optimizer = OPTIMIZERS[config.optimizer](self.trained, weight_decay, **options)
        # What gradients are multiplied by while they are float16, which holds nothing below 6e-8
        # (Micikevicius et al. 2017, arXiv:1710.03740), and for how many steps this has gone well.
        self.scales = config.dtype == 'float16'
        self.loss_scale = tf.Variable(FIRST_SCALE if self.scales else 1.0)
        self.steps_at_scale = tf.Variable(0)

    def tensors(self):
        """What checkpoint.save writes beside the model."""
        numbers = {
            'seed': self.seed,
            'counter': self.counter,
            'updates': int(self.updates),
            'updates_before': int(self.updates_before),
            'dataset': self.dataset,
            'avg_loss': self.avg_loss,
            'loss_scale': self.scales and [float(self.loss_scale), int(self.steps_at_scale)],
            'sampler': self.sampler.state(),
            'validation': [self.best_loss, self.worse],
            'adapters': self.adapters,
        }
        text = json.dumps(numbers, default=lambda number: number.item())  # of NumPy, from Python
        return {'numbers': text, **self.optimizer.slots}

    def restore(self, tensors, prefix):
        """Continue where `tensors` were saved; says what is other than it was.

        Args:
            prefix: of the checkpoint that they lie beside.

        Raises ValueError: they are not what `tensors` gave.
        """
        try:
            self._restore(tensors, numbers_in(tensors['numbers']))
        except DAMAGE as error:
            raise ValueError(
                f'The state that lies beside {prefix} is damaged: {type(error).__name__} {error}. '
                'Remove it, to go on with a new optimizer'
            ) from None

    def _restore(self, tensors, numbers):
        self.seed = numbers['seed']
        # Where it was saved on the way, the step of that number has not been made.
        self.counter = int(numbers.get('counter', self.counter))
        self.updates.assign(numbers['updates'])
        self.avg_loss = tuple(numbers['avg_loss'])
        if self.scales and numbers.get('loss_scale'):  # it was float16 before
            scale, steps = numbers['loss_scale']
            self.loss_scale.assign(scale)
            self.steps_at_scale.assign(steps)
        is_new = numbers.get('dataset', self.dataset) != self.dataset
        if is_new:
            print('The dataset is another one than before, or read otherwise', file=sys.stderr)
        if set(numbers['sampler']) != set(self.sampler.state()):
            print('The run was packed otherwise so far; its windows start anew', file=sys.stderr)
        elif not (is_new and 'drawn' in numbers['sampler']):  # of which text it is to be the next
            self.sampler.restore(numbers['sampler'])
        self.best_loss, self.worse = numbers.get('validation', [self.best_loss, self.worse])
        same = numbers.get('adapters') == self.adapters
        if not same or set(tensors) != {'numbers', *self.optimizer.slots}:
            print(
                'The run was trained otherwise so far; its optimizer starts anew', file=sys.stderr
            )
            self.updates_before.assign(self.updates)
            return
        self.updates_before.assign(numbers.get('updates_before', 0))
        for name, slot in self.optimizer.slots.items():
            slot.assign(tensors[name])

    def step_seed(self):  # -> [2]
        """What the random numbers of the next step are made from."""
        return tf.stack([tf.constant(self.seed, tf.int64), self.updates])

    def optimizers_updates(self):  # -> [], by which Adam corrects its bias
        return tf.cast(self.updates - self.updates_before, tf.float32)

    def update(self, loss, norm, gradients, learning_rate):
        """Change the weights, unless that would spoil them for good."""

        def apply():
            self.optimizer.apply(gradients, learning_rate, self.optimizers_updates())
            return self.updates.assign_add(1)

        finite = tf.math.is_finite(loss + norm)
        tf.cond(finite, apply, self.updates.read_value)
        if self.scales:
            self.adapt_scale(finite)

    def adapt_scale(self, finite):
        """Half the loss scale after a step that was too large, twice after many that were not."""
        steps = tf.where(finite, self.steps_at_scale + 1, 0)
        twice = tf.where(steps == STEPS_TO_DOUBLE, 2.0, 1.0)
        scale = self.loss_scale * tf.where(finite, twice, 0.5)
        self.loss_scale.assign(tf.maximum(scale, 1.0))
        self.steps_at_scale.assign(steps % STEPS_TO_DOUBLE)

    def update_at_once(self, loss, parts, learning_rate):
        """Change each part of the weights as soon as its gradients are there; gives their norm.

        So there is never room for all gradients. From the first gradient that is not a number on
        nothing changes; the layers above it have been changed then.
        """
        updates = self.optimizers_updates()
        squares = tf.zeros([])
        for part in parts:
            squares += 2 * tf.add_n([tf.nn.l2_loss(gradient) for gradient in part.values()])

            def apply(part=part):
                self.optimizer.apply(part, learning_rate, updates)
                return True

            tf.cond(tf.math.is_finite(loss + squares), apply, lambda: False)
        finite = tf.math.is_finite(loss + squares)
        self.updates.assign_add(tf.cast(finite, self.updates.dtype))
        return tf.sqrt(squares)


def numbers_in(text):
    """The numbers that TrainState.tensors wrote. Raises one of DAMAGE where one cannot be that."""
    numbers = json.loads(text)
    for name, value in [*numbers.items(), *numbers['sampler'].items()]:
        if name in COUNTS and not _is_count(value):
            raise ValueError(f'{name} is {str(value)[:40]!r}')
    for name in ('avg_loss', 'validation'):
        pair = numbers.get(name, [0.0, 0])
        if len(pair) != 2 or not all(type(each) is float or _is_count(each) for each in pair):
            raise ValueError(f'{name} is {str(pair)[:40]!r}')
    return numbers


def _is_count(value):
    return type(value) is int and 0 <= value < 2**63


def with_noise(batches, p, n_vocab, seed):  # [number, batch, sequence] int32 -> the same
    """Each token replaced with probability p by any token of the vocabulary."""
    replaced, random = tf.unstack(tf.random.split(seed))
    noise = tf.random.stateless_uniform(batches.shape, random, 0, n_vocab, tf.int32)
    return tf.where(tf.random.stateless_uniform(batches.shape, replaced) < p, noise, batches)


def compiled(state, config, window, devices=distribution.ONE, copies=()):
    """A compiled function that makes a step and gives the loss and the norm of its gradient.

    Its arguments are batches, [accumulate_gradients, replicas * batch, window] int32, and a
    learning rate. The loss is the mean over all tokens of all batches that are to be learnt, see
    windows. It changes the weights, the optimizer and the count of updates; none of them where the
    loss or the gradient is not finite, except where layers are updated at once: those above the
    first gradient that is not finite have changed then, see TrainState.update_at_once.

    Args:
        copies: the same as `state` on the other devices of this process.
    """
    steps = [_one_step(each, config, window, devices) for each in (state, *copies)]
    shape = [config.accumulate_gradients, devices.replicas * config.batch_size, window]

    @tf.function(
        input_signature=[tf.TensorSpec(shape, tf.int32), tf.TensorSpec([])], autograph=False
    )
    def train_step(batches, learning_rate):
        with custom_gradients.forgotten_afterwards():  # when it was traced
            return devices.run(steps, batches, learning_rate)

    return train_step


def _parts(state, config, batches, devices):
    """What backpropagation.loss_and_gradients takes, of this replica: {name: tensor}."""
    parts = masks.parts_of(batches, state.sampler.dtype.kind == 'i', state.end)
    parts['inputs'] = parts['tokens']
    if config.noise:
        n_vocab = state.lm.hparams.n_vocab
        parts['inputs'] = with_noise(parts['tokens'], config.noise, n_vocab, state.step_seed())
    parts = {name: devices.share(part) for name, part in parts.items()}
    if config.dropout:
        number = batches.shape[0]
        seeds = tf.random.split(state.step_seed(), number * devices.replicas)
        parts['seed'] = devices.share(tf.reshape(seeds, [number, devices.replicas, 2]))[:, 0]
    return parts


def _one_step(state, config, window, devices):
    """What `compiled` compiles for one replica."""
    lm, trained = state.lm, state.trained
    dtype = tf.dtypes.as_dtype(config.dtype)
    block = lean_block.lean_block(dtype, config.lora_scale, config.dropout)

    def loss_and_gradients(batch):
        return backpropagation.loss_and_gradients(
            lm, trained, **batch, block=block, dtype=dtype,
            recompute=config.memory_saving_gradients,
            scale=tf.convert_to_tensor(state.loss_scale) if state.scales else 1.0,
            dropout_rate=config.dropout,
        )  # fmt: skip

    of_small = None
    if small_model.suits(config, lm.hparams) and devices.replicas == 1:
        variables = list(trained.values())
        of_small = small_model.loss_and_gradients(lm, variables, config.batch_size, window)

    def loss_and_all_gradients(batch):
        if of_small and batch.keys() == {'inputs', 'tokens'}:
            return of_small(**batch)
        loss, parts = loss_and_gradients(batch)
        gradients = {name: gradient for part in parts for name, gradient in part.items()}
        return loss, [gradients[name] for name in trained]

    def one_step(batches, learning_rate):
        batches = _parts(state, config, batches, devices)
        if config.updates_at_once:
            loss, parts = loss_and_gradients(accumulate.batch_of(batches, 0))
            (loss,) = devices.mean([loss])
            parts = (
                dict(zip(part, devices.mean(list(part.values())), strict=True)) for part in parts
            )
            return loss, state.update_at_once(loss, parts, learning_rate)
        loss, gradients = accumulate.mean_gradients(
            loss_and_all_gradients, batches, [v.shape for v in trained.values()]
        )
        loss, *gradients = devices.mean([loss, *gradients])
        if state.scales:
            gradients = [gradient / state.loss_scale for gradient in gradients]
        norm = tf.linalg.global_norm(gradients)
        if config.clip_gradients:
            gradients, _ = tf.clip_by_global_norm(gradients, config.clip_gradients, norm)
        state.update(loss, norm, dict(zip(trained, gradients, strict=True)), learning_rate)
        return loss, norm

    return one_step
