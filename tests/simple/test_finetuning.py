"""A run as gpt-2-simple's programs ask for it; what is trained is the other rooms' tests."""

import json
import pathlib

import pytest

from src.simple import finetuning, session
from src.training import training

PLAN = pathlib.Path('checkpoint/run1/gpt_2_simple.json')


@pytest.fixture
def runs(place, monkeypatch):
    """The configs of the runs that were asked for: none is made, but each begins."""
    configs = []

    def train(config, shown):
        configs.append(config)
        with shown(f'{config.checkpoint_dir}/{config.run_name}', 1, config.steps):
            pass

    monkeypatch.setattr(training, 'train', train)
    return configs


def asked(runs, dataset='text', **options):
    finetuning.finetune(session.start_tf_sess(), dataset, model_name='tiny', **options)
    return runs[-1]


def test_its_defaults(runs):
    config = asked(runs)
    assert config.learning_rate == 0.0001 and config.accumulate_gradients == 5
    assert config.max_checkpoints == config.print_every == config.batch_size == 1
    assert (config.steps, config.save_every, config.sample_every) == (0, 1000, 100)
    assert config.keep_earlier and config.strategy == 'none' and config.optimizer == 'adam'
    assert config.seq_length == 1024
    assert (config.delimiter, config.end_token) == (',', '<|endoftext|>\n')


def test_what_is_passed_on(runs):
    config = asked(
        runs, steps='7', multi_gpu=True, overwrite=True, use_memory_saving_gradients=True,
        only_train_transformer_layers=True, checkpoint_dir=pathlib.Path('runs'), run_name='poems',
        max_checkpoints=3, print_every=10, reuse=True, val_every=5, seed=1,
    )  # fmt: skip
    assert config.steps == 7 and config.strategy == 'auto' and not config.keep_earlier
    assert config.memory_saving_gradients and config.accumulate_gradients == 5
    assert config.only_train_transformer_layers and config.checkpoint_dir == 'runs'
    assert config.max_checkpoints == 3 and config.print_every == 10 and config.run_name == 'poems'
    assert config.val_every == 5 and config.seed == 1


def test_steps_of_sgd_are_as_long_as_there(runs):
    options = {'learning_rate': 0.01, 'accumulate_gradients': 3}
    assert asked(runs, optimizer='sgd', **options).learning_rate == pytest.approx(0.03)
    assert asked(runs, optimizer='adam', **options).learning_rate == 0.01


@pytest.mark.parametrize('steps', [-1, 0, None, '-1'])
def test_without_an_end(runs, steps):
    assert asked(runs, steps=steps).steps == 0


def made(steps):
    """As if the run had been saved after so many steps."""
    for name in ('hparams.json', 'encoder.json', 'vocab.bpe'):
        pathlib.Path('checkpoint/run1', name).write_bytes(
            pathlib.Path('models/tiny', name).read_bytes()
        )
    pathlib.Path(f'checkpoint/run1/model-{steps}.index').touch()
    pathlib.Path('checkpoint/run1/checkpoint').write_text(f'model_checkpoint_path: "model-{steps}"')


def test_a_call_that_was_cut_off_makes_the_steps_that_are_left(runs):
    assert asked(runs, steps=10).steps == 10
    made(4)
    assert asked(runs, steps=10).steps == 10
    made(10)
    assert asked(runs, steps=10).steps == 20  # as many again, as there
    made(15)
    assert asked(runs, steps=10).steps == 20
    assert asked(runs, steps=3).steps == 18  # another call
    assert asked(runs, steps=10, restore_from='fresh').steps == 10
    assert json.loads(PLAN.read_text()) == {'steps': 10, 'last_step': 10, 'dataset': 'text'}
    made(4)
    pathlib.Path('other').write_bytes(pathlib.Path('text').read_bytes())
    assert asked(runs, dataset='other', steps=10).steps == 14  # another call, too


def test_values_that_turn_something_off_there(runs):
    config = asked(runs, max_checkpoints=None, accumulate_gradients=0)
    assert config.max_checkpoints == 0 and config.accumulate_gradients == 1


def test_a_run_in_a_folder_of_runs(runs):
    config = asked(runs, run_name='poems/short')
    assert config.checkpoint_dir == 'checkpoint/poems' and config.run_name == 'short'


@pytest.mark.parametrize('plan', [None, '', '[]', '{"steps": 10, "last_step": "x"}', '[' * 10**5])
def test_a_run_of_gpt_2_simple_or_a_damaged_plan(runs, plan):
    PLAN.parent.mkdir(parents=True)
    made(4)
    if plan is not None:
        PLAN.write_text(plan)
    assert asked(runs, steps=10).steps == 14


@pytest.mark.parametrize(
    'options, complaint',
    [
        ({'steps': 'many'}, "steps is 'many'; it must be a whole number, and -1 has no end"),
        ({'print_every': 0}, '--print_every is 0; it must be 1 or more'),
        ({'optimizer': 'adagrad'}, "--optimizer is 'adagrad'; it must be one of adam"),
        ({'step': 3}, "there is no option 'step'. Did you mean steps"),
        ({'restore_from': 'none'}, '--restore_from none: no checkpoint is there'),
        ({'run_name': 'run1/..'}, '--run_name is '),
    ],
)
def test_mistakes_are_told_before_anything_begins(runs, options, complaint):
    sess = session.start_tf_sess()
    sess.hold('models/tiny', 'models/tiny/model.ckpt')
    with pytest.raises(ValueError, match=f'^{complaint}') as error:
        finetuning.finetune(sess, 'text', model_name='tiny', **options)
    assert '\n' not in str(error.value) and not runs and sess.directory == 'models/tiny'


def test_the_session_has_the_model_that_was_saved_and_no_other(runs):
    sess = session.start_tf_sess()
    sess.hold('models/tiny', 'models/tiny/model.ckpt')
    finetuning.finetune(sess, 'text', model_name='tiny', steps=1)
    assert sess.directory is None  # nothing was saved
    made(4)
    finetuning.finetune(sess, 'text', model_name='tiny', steps=1)
    assert sess.directory == 'checkpoint/run1'


def test_without_the_model(runs):
    for options in ({}, {'restore_from': 'fresh'}):
        with pytest.raises(
            FileNotFoundError, match=r"no models/124M.*download_gpt2\(model_name='1"
        ):
            finetuning.finetune(session.start_tf_sess(), 'text', **options)
    assert not runs
    PLAN.parent.mkdir(parents=True)
    made(4)
    finetuning.finetune(session.start_tf_sess(), 'text', steps=1)  # the run has all it needs
    assert runs[-1].steps == 5
    with pytest.raises(ValueError, match='it must be what gpt2.start_tf_sess'):
        finetuning.finetune('text', steps=1, dataset='text')
