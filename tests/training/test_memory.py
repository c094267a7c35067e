import dataclasses

import numpy as np
import pytest

from src import model
from src.data import processes
from src.gradients import lora
from src.training import initial_model, memory, train_config, train_step

HPARAMS = model.HParams(n_vocab=97, n_ctx=32, n_embd=24, n_head=2, n_layer=3)


def config(**changes):
    return train_config.TrainConfig(dataset='', **changes)


def size(variables):
    return sum(variable.shape.num_elements() * variable.dtype.size for variable in variables)


@pytest.mark.parametrize(
    'flags',
    [
        {},
        {'optimizer': 'sgd'},
        {'optimizer': 'muon'},
        {'optimizer': 'adamw', 'only_train_transformer_layers': True},
        {'lora_rank': 2, 'dtype': 'bfloat16'},
    ],
)
def test_weights_and_optimizer_are_those_of_a_run(flags):
    settings = config(**flags)
    lm, _ = initial_model.InitialModel('', HPARAMS, None, []).restored(None, settings)
    state = train_step.TrainState(lm, settings, [np.arange(9)])
    parts = memory.peak(HPARAMS, settings)
    vectors = 4 * sum(v.shape[0] for v in model.by_name(lm.params).values() if v.shape.rank == 1)
    slack = vectors if settings.lora_rank else 0  # which stay float32
    assert parts['weights'] == pytest.approx(size(model.by_name(lm.params).values()), abs=slack)
    assert parts['optimizer'] == size(state.optimizer.slots.values())
    if settings.lora_rank:
        adapters = [v for _, part in lora.linear_layers(lm.params) for v in part['lora'].values()]
        assert parts['optimizer'] == 2 * size(adapters)


def total(**flags):
    hparams = model.HParams(n_vocab=50257, n_embd=1600, n_head=25, n_layer=48)
    return sum(memory.peak(hparams, config(**flags)).values()) / 1e9


def test_flags_save_what_they_are_said_to_save():
    saving = {'memory_saving_gradients': True}
    assert total() > total(**saving) > total(optimizer='adafactor', **saving)
    assert total(lora_rank=8) > total(lora_rank=8, **saving)
    assert total(lora_rank=8, **saving) > 3 + total(lora_rank=8, dtype='bfloat16', **saving)
    assert total(clip_gradients=1.0, **saving) - total(**saving) > 5  # all gradients at once
    assert total(accumulate_gradients=2) > total() > total(seq_length=256)


@pytest.mark.parametrize(
    'there, flags',
    [
        (3.0, '--memory_saving_gradients'),
        (2.1, '--memory_saving_gradients --optimizer adafactor'),
        (1.7, '--memory_saving_gradients --optimizer adafactor --dtype bfloat16 --lora_rank 8'),
        (1.0, None),
    ],
)
def test_what_does_not_fit_is_told_what_would(monkeypatch, there, flags):
    monkeypatch.setattr(processes, 'available_memory', lambda: there * 1e9)
    hparams = dataclasses.replace(model.default_hparams(), n_vocab=50257)
    *_, last = memory.report(hparams, config())
    if flags:
        assert last.startswith('This does not fit; ') and last.endswith(f'enough with {flags}')
    else:
        assert last == 'This does not fit, whatever the flags; a smaller model may'


def test_what_fits_is_said_to(monkeypatch):
    monkeypatch.setattr(processes, 'available_memory', lambda: 1e12)
    *parts, total, last = memory.report(HPARAMS, config())
    assert len(parts) == 4 and 'GB in all, about; there are 1000.00 GB' in total
    assert last == 'This fits.'


def test_there_is_memory():
    assert 1e8 < processes.available_memory() < 1e14
