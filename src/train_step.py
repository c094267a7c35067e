"""One step of training: the state that it changes, and the function that changes it."""

import json
import secrets
import sys

import tensorflow as tf

from . import (
    accumulate,
    fused_loss,
    lean_block,
    load_dataset,
    memory_saving_gradients,
    model,
    optimizer,
)

OPTIMIZERS = {
    'adam': optimizer.Adam,
    'adamw': optimizer.Adam,
    'adafactor': optimizer.Adafactor,
    'sgd': optimizer.SGD,
}


class TrainState:
    """Everything that changes while training, and all that a resume needs to know."""

    def __init__(self, lm, config, chunks):
        self.lm = lm
        self.seed = secrets.randbits(31) if config.seed is None else config.seed
        self.sampler = load_dataset.Sampler(chunks, seed=self.seed)
        self.counter = 1  # the number of the next step, as it is printed
        self.updates = tf.Variable(0, dtype=tf.int64)  # how often the weights have changed
        self.avg_loss = (0.0, 0.0)  # decaying sums of the losses and of their weights
        self.trained = {
            name: variable
            for name, variable in model.by_name(lm.params).items()
            if '/h' in name or not config.only_train_transformer_layers
        }
        weight_decay = config.weight_decay
        if weight_decay is None:
            weight_decay = 0.01 if config.optimizer == 'adamw' else 0.0
        self.optimizer = OPTIMIZERS[config.optimizer](self.trained, weight_decay)

    def tensors(self):
        """What checkpoint.save writes beside the model."""
        numbers = {
            'seed': self.seed,
            'updates': int(self.updates),
            'avg_loss': self.avg_loss,
            'sampler': self.sampler.state(),
        }
        return {'numbers': json.dumps(numbers), **self.optimizer.slots}

    def restore(self, tensors):
        """Continue where `tensors` were saved; says so if that was with another optimizer."""
        numbers = json.loads(tensors['numbers'])
        self.seed = numbers['seed']
        self.updates.assign(numbers['updates'])
        self.avg_loss = tuple(numbers['avg_loss'])
        self.sampler.restore(numbers['sampler'])
        if set(tensors) != {'numbers', *self.optimizer.slots}:
            print(
                'The run was trained otherwise so far; its optimizer starts anew', file=sys.stderr
            )
            return
        for name, slot in self.optimizer.slots.items():
            slot.assign(tensors[name])


def with_noise(batches, p, n_vocab, seed):  # [number, batch, sequence] int32 -> the same
    """Each token replaced with probability p by any token of the vocabulary."""
    replaced, random = tf.unstack(tf.random.split(seed))
    noise = tf.random.stateless_uniform(batches.shape, random, 0, n_vocab, tf.int32)
    return tf.where(tf.random.stateless_uniform(batches.shape, replaced) < p, noise, batches)


def aligned(h, tokens):  # [batch, sequence, features], [batch, sequence] -> [n, features], [n]
    """The features that predict a token, and the token: those at <n, and token n."""
    return tf.reshape(h[:, :-1], [-1, h.shape[-1]]), tf.reshape(tokens[:, 1:], [-1])


def compiled(state, config, window):
    """A compiled function that makes a step and gives the loss and the norm of its gradient.

    Its arguments are batches, [accumulate_gradients, batch, window] int32, and a learning rate. It
    changes the weights, the optimizer and the count of updates; none of them where the loss or the
    gradient is not finite.
    """
    lm = state.lm
    variables = list(state.trained.values())
    train_wte = 'model/wte' in state.trained
    dtype = tf.dtypes.as_dtype(config.dtype)
    block = lean_block.lean_block(window, dtype)
    if config.memory_saving_gradients:
        block = memory_saving_gradients.recompute(block)

    def loss_and_gradients(batch):  # [2, batch, window]: what the model sees, what it should say
        inputs, tokens = tf.unstack(batch)
        wte = tf.identity(lm.params['wte'])  # apart from the one that embeds the inputs
        with tf.GradientTape() as tape:
            tape.watch(wte)
            h, _ = model.transformer(lm.hparams, lm.params, inputs, block=block)
            loss = fused_loss.linear_cross_entropy(*aligned(h, tokens), wte, dtype, train_wte)
        dwte, *gradients = tape.gradient(loss, [wte, *variables])
        return loss, [
            tf.tensor_scatter_nd_add(dwte, g.indices[:, None], g.values)
            if variable is lm.params['wte']
            else tf.convert_to_tensor(g)
            for variable, g in zip(variables, gradients, strict=True)
        ]

    shape = [config.accumulate_gradients, config.batch_size, window]

    @tf.function(
        input_signature=[tf.TensorSpec(shape, tf.int32), tf.TensorSpec([])], autograph=False
    )
    def train_step(batches, learning_rate):
        inputs = batches
        if config.noise:
            seed = tf.stack([tf.constant(state.seed, tf.int64), state.updates])
            inputs = with_noise(batches, config.noise, lm.hparams.n_vocab, seed)
        loss, gradients = accumulate.mean_gradients(
            loss_and_gradients, tf.stack([inputs, batches], axis=1), [v.shape for v in variables]
        )
        norm = tf.linalg.global_norm(gradients)
        if config.clip_gradients:
            gradients, _ = tf.clip_by_global_norm(gradients, config.clip_gradients, norm)

        def update():
            updates = tf.cast(state.updates, tf.float32)
            state.optimizer.apply(gradients, learning_rate, updates)
            return state.updates.assign_add(1)

        # A loss or a gradient that is no number would spoil the weights for good.
        tf.cond(tf.math.is_finite(loss + norm), update, state.updates.read_value)
        return loss, norm

    return train_step


@tf.function(autograph=False)
def validation_loss(lm, tokens):  # [batch, sequence] -> []
    h, _ = model.transformer(
        lm.hparams, lm.params, tokens, block=lean_block.lean_block(tokens.shape[1])
    )
    return fused_loss.cross_entropy(*aligned(h, tokens), lm.params['wte'])
