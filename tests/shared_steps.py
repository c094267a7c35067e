"""Steps of training that are compiled once, though many runs take them.

What a run has compiled changes the variables of that run; so the next one lends it its values for
each step, and takes back what has become of them.
"""

import dataclasses

from src import model
from src.gradients import small_model
from src.training import distribution, train_step

MOST = 16  # of what was compiled is kept, each with its model
ELSEWHERE = {  # no part of a step
    'dataset', 'run_name', 'checkpoint_dir', 'restore_from', 'steps', 'epochs', 'save_every',
    'max_checkpoints', 'keep_earlier', 'print_every', 'learning_rate', 'schedule', 'warmup_steps',
    'min_learning_rate', 'sample_every', 'sample_num', 'sample_length', 'val_every', 'val_dataset',
    'val_split', 'val_batch_size', 'val_batch_count', 'save_best', 'patience', 'strategy', 'seed',
}  # fmt: skip
anew = train_step.compiled
kept = {}  # {what a step is made of: the state that it changes, and the function}


def compiled(state, config, window, devices=distribution.ONE, copies=()):
    """What train_step.compiled gives, made by an earlier run if it was the same."""
    if devices is not distribution.ONE:
        return anew(state, config, window, devices, copies)
    return Step(state, config, window)


class Step:
    def __init__(self, state, config, window):
        self.state, self.config, self.window, self.made = state, config, window, None
        self.function = anew(state, config, window)  # which is traced when it is called
        self.input_signature = self.function.input_signature

    def __call__(self, batches, learning_rate):
        if self.made is None:  # only now, for the seed is that of a run that goes on
            key = self.key()
            self.made = kept[key] = kept.pop(key, (self.state, self.function))
            while len(kept) > MOST:
                kept.pop(next(iter(kept)))  # the one that was used longest ago
        lent, function = self.made
        copy(self.state, lent)
        result = function(batches, learning_rate)
        copy(lent, self.state)
        return result

    def experimental_get_tracing_count(self):
        return self.made[1].experimental_get_tracing_count()

    def key(self):
        state, flags = self.state, dataclasses.asdict(self.config)
        flags = {name: value for name, value in flags.items() if name not in ELSEWHERE}
        weights = model.by_name(state.lm.params)
        shapes = [(name, v.shape, v.dtype) for name, v in weights.items()]
        changed_by_tests = small_model.WIDEST, train_step.STEPS_TO_DOUBLE
        others = state.seed, state.end, state.sampler.dtype, self.window, changed_by_tests
        return repr((flags, state.lm.hparams, shapes, list(state.trained), others))


def variables(state):
    counts = [state.updates, state.updates_before, state.loss_scale, state.steps_at_scale]
    return [*model.by_name(state.lm.params).values(), *state.optimizer.slots.values(), *counts]


def copy(state, other):
    if state is not other:
        for variable, its in zip(variables(state), variables(other), strict=True):
            its.assign(variable)
