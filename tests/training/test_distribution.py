"""Several devices and several processes take the steps of one; all on this machine."""

import json
import pathlib
import re
import signal
import socket
import tempfile
import textwrap
import time

import numpy as np
import programs
import pytest
import tensorflow as tf
from conftest import ROOT, TEXT
from runs import same, scalars, train, weights

from src.model_files import checkpoint, model_directory
from src.training import dataset, distribution, train_config, training

CASES = {
    'accumulated': {'optimizer': 'sgd', 'learning_rate': 0.05, 'accumulate_gradients': 2,
                    'memory_saving_gradients': True, 'noise': 0.2, 'clip_gradients': 0.5},
    'at_once': {'memory_saving_gradients': True},
    'packed': {'dataset': 'words', 'pack': True, 'document_mask': True, 'accumulate_gradients': 2},
}  # fmt: skip
TWO_DEVICES = """
    import sys
    import tensorflow as tf
    sys.path[:0] = [{tests!r}, {root!r}]
    cpu = tf.config.list_physical_devices('CPU')[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    from src.training import distribution
    assert distribution.devices('mirrored').replicas == 2
    from runs import train
    for name, flags in {cases!r}.items():
        for steps in (4, 10):
            train(run_name=name, steps=steps, strategy='mirrored', **flags)
"""


def test_two_devices_take_the_steps_of_one(place):
    (place / 'words').write_text('<|endoftext|>'.join(TEXT.split()))
    code = TWO_DEVICES.format(tests=str(ROOT / 'tests'), root=str(ROOT), cases=CASES)
    result = programs.result_of(['-c', textwrap.dedent(code)], place)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('Loading checkpoint') == 2 * len(CASES)  # once, not on each device
    for name, flags in CASES.items():
        train(run_name='one', steps=10, batch_size=4, restore_from='fresh', **flags)
        close(name, 'one', 10)


def close(run, other, steps):
    losses, expected = scalars('loss', run), scalars('loss', other)
    assert list(expected) == list(range(1, steps + 1))
    assert set(losses) == set(expected)
    np.testing.assert_allclose(list(losses.values()), list(expected.values()), atol=1e-5)
    ours, theirs = (weights(f'checkpoint/{name}/model-{steps}') for name in (run, other))
    for name, value in ours.items():
        if name.endswith('c_attn/b'):  # keys' biases have gradients of rounding alone
            continue
        np.testing.assert_allclose(value, theirs[name], atol=5e-5, err_msg=name)
    sampler, other = (
        json.loads(checkpoint.load_state(f'checkpoint/{name}/model-{steps}')['numbers'])['sampler']
        for name in (run, other)
    )
    assert sampler == other


def test_mirrored_on_one_device_changes_nothing(place):
    train(run_name='mirrored', strategy='mirrored')
    train(run_name='none', strategy='none')
    assert same(weights('checkpoint/mirrored/model-3'), weights('checkpoint/none/model-3'))


class Workers:
    """train.py twice, as two workers on this machine."""

    def __init__(self, *directories, **flags):
        self.processes, self.written = [], []
        addresses = free_addresses(2)
        flags = {
            'dataset': 'text', 'model_name': 'tiny', 'seq_length': 16, 'batch_size': 1,
            'learning_rate': 0.001, 'seed': 1, 'sample_every': 0, 'save_every': 0,
            'accumulate_gradients': 2, **flags,
        }  # fmt: skip
        flags = [str(part) for name, value in flags.items() for part in (f'--{name}', value)]
        flags.append('--memory_saving_gradients')
        for index, directory in enumerate(directories):
            config = {
                'cluster': {'worker': addresses},
                'task': {'type': 'worker', 'index': index},
            }
            environment = {'TF_CONFIG': json.dumps(config)}
            written = pathlib.Path(tempfile.mkdtemp(dir=directory))
            self.written.append(written)
            with open(written / 'out', 'w') as out, open(written / 'err', 'w') as err:
                self.processes.append(programs.Program(
                    [ROOT / 'train.py', *flags], directory, environment=environment,
                    stdout=out, stderr=err,
                ))  # fmt: skip

    def wait_for(self, step):
        end, printed = time.time() + 300, ''
        while not re.search(rf'^\[{step} \|', printed, re.MULTILINE):
            assert time.time() < end and self.processes[0].poll() is None, self.text(0, 'err')
            time.sleep(0.01)
            printed = self.text(0, 'out')

    def text(self, index, name):
        return (self.written[index] / name).read_text('utf-8')

    def end(self):
        """(status, what was printed, the last line of the errors) of each worker."""
        ends = []
        for index, process in enumerate(self.processes):
            process.wait()
            process.close()
            said = [line for line in self.text(index, 'err').splitlines() if line]
            ends.append((process.returncode, self.text(index, 'out'), said[-1] if said else ''))
        return ends


def free_addresses(number):
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(('127.0.0.1', 0))
    addresses = [f'127.0.0.1:{each.getsockname()[1]}' for each in sockets]
    for each in sockets:
        each.close()
    return addresses


def test_two_workers_take_the_steps_of_one_and_go_on_when_one_is_lost(place):
    two = Workers(place, place, run_name='parts')
    two.wait_for(3)
    two.processes[1].send_signal(signal.SIGTERM)
    (status, printed, _), (other_status, nothing, _) = two.end()
    saved = re.fullmatch(
        r'.*^\[(\d+) \|[^\n]*\ninterrupted\nSaving checkpoint/parts/model-\1\n',
        printed,
        re.MULTILINE | re.DOTALL,
    )
    assert (status, other_status, nothing) == (0, 0, '') and saved

    two = Workers(place, place, run_name='parts', save_every=2)
    two.wait_for(int(saved[1]) + 5)
    two.processes[1].kill()
    before = time.time()
    (status, _, errors), _ = two.end()
    assert time.time() - before < 60
    assert status == 1
    assert errors.startswith('Another worker has ended or cannot be reached (')
    assert errors.endswith('Start the same command again on all machines; the run goes on from '
                           'its last checkpoint')  # fmt: skip

    last = checkpoint.counter_of(model_directory.latest('checkpoint/parts'))
    assert last > int(saved[1])
    assert [end[0] for end in Workers(place, place, run_name='parts', steps=last + 5).end()] == [
        0,
        0,
    ]
    two = Workers(place, place, run_name='whole', steps=last + 5)
    assert [end[0] for end in two.end()] == [0, 0]
    parts, whole = f'checkpoint/parts/model-{last + 5}', f'checkpoint/whole/model-{last + 5}'
    assert same(weights(whole), weights(parts))
    assert same(checkpoint.load_state(whole), checkpoint.load_state(parts))
    assert len(list(pathlib.Path('checkpoint/whole').glob('events.*'))) == 1

    train(
        run_name='one', steps=last + 5, batch_size=2, accumulate_gradients=2,
        memory_saving_gradients=True,
    )  # fmt: skip
    close('whole', 'one', last + 5)


ALONE = """
from src.training import distribution
distribution.PATIENCE = 1
distribution.devices('multiworker')
"""


def test_a_worker_that_waits_says_for_whom_and_ends():
    mine, others = free_addresses(2)
    cluster = {'cluster': {'worker': [mine, others]}, 'task': {'type': 'worker', 'index': 0}}
    environment = {'TF_CONFIG': json.dumps(cluster)}
    result = programs.result_of(['-c', ALONE], ROOT, environment=environment)
    assert result.returncode == -signal.SIGALRM
    said = f'no answer yet from worker 1 at {others}; without one this process ends in 1 s\n'
    assert said in result.stderr


def test_workers_with_other_texts_of_one_length_are_refused():
    one, other = (dataset.fingerprint([np.arange(n, n + 9, dtype=np.uint16)]) for n in (0, 1))
    assert one[0] == other[0] and one[1] != other[1]
    wide = dataset.fingerprint([np.arange(9, dtype=np.int64)])
    assert wide == one  # whatever type it lies in
    assert dataset.fingerprint([np.arange(4), np.arange(4, 9)]) != one


def test_two_workers_lose_patience_together(place):
    flags = {'val_every': 1, 'val_batch_count': 1, 'patience': 2, 'learning_rate': 1e-30}
    (status, printed, errors), (other_status, nothing, _) = Workers(place, place, **flags).end()
    assert (status, other_status, nothing) == (0, 0, '')
    assert printed.endswith('Saving checkpoint/run1/model-3\n') and 'interrupted' not in printed
    assert errors.endswith('in the last 2 validations; stopping after this step')


class Two(distribution.Devices):
    """The second of two workers, the first of which has other numbers."""

    def __init__(self, of_first):
        super().__init__(worker=1, workers=2)
        self.replicas = 2
        self.of_first = of_first

    def of_all(self, number):
        return [self.of_first, number]


def test_workers_from_different_checkpoints_are_refused(capfd):
    Two(5).require_same('The last checkpoint', 5)
    complaint = 'The last checkpoint is 5 on worker 0, 3 on worker 1. All workers need the same'
    with pytest.raises(ValueError, match=complaint), Two(5).as_one():
        print('not seen')
        Two(5).require_same('The last checkpoint', 3)
    assert capfd.readouterr().out == ''


def test_the_chiefs_seed_is_everyones():
    config = train_config.TrainConfig(dataset='none')
    assert training._with_the_chiefs_seed(config, Two(7)).seed == 7
    assert training._with_the_chiefs_seed(config, distribution.ONE).seed is None


def cluster_of(*addresses, **others):
    return json.dumps({'cluster': {'worker': addresses}, **others})


TWO = ['a:1', 'b:1']


@pytest.mark.parametrize(
    'text, complaint',
    [
        (None, 'needs the environment variable TF_CONFIG on each machine, such as {"cluster"'),
        ('worker', 'TF_CONFIG is no JSON: Expecting value'),
        ('[1]', 'needs the environment variable TF_CONFIG'),
        (cluster_of(*TWO), 'TF_CONFIG has no "task" with "type" and "index"'),
        (cluster_of(*TWO, task=3), 'TF_CONFIG has no "task"'),
        (
            cluster_of(*TWO, task={'type': 'worker', 'index': 2}),
            'has the task worker 2; its cluster has worker 0, worker 1. It should be such as {"clu',
        ),
        (cluster_of(*TWO, task={'type': 'worker', 'index': '0'}), "has the task worker '0'"),
        (cluster_of(*TWO, task={'type': ['worker'], 'index': 0}), 'has the task'),
        (cluster_of('a', 'b'), 'TF_CONFIG has no list of host:port as worker'),
        ('{"cluster": {"worker": "a:1"}}', 'TF_CONFIG has no list of host:port as worker'),
        ('{"cluster": {"ps": ["a:1"]}}', 'TF_CONFIG has a cluster of something else'),
    ],
)
def test_a_wrong_tf_config_is_told(monkeypatch, text, complaint):
    if text is None:
        monkeypatch.delenv('TF_CONFIG', raising=False)
    else:
        monkeypatch.setenv('TF_CONFIG', text)
    with pytest.raises(ValueError, match='^[^\n]*' + re.escape(complaint)):
        distribution.devices('multiworker')


@pytest.mark.parametrize('text', ['', '{}', cluster_of('a:1')])
def test_by_default_nothing_changes_on_one_device(monkeypatch, text):
    monkeypatch.setenv('TF_CONFIG', text)
    assert distribution.devices('auto') is distribution.ONE
    assert distribution.ONE.of_all(3) == [3]
    assert distribution.ONE.mean([tf.constant(1.0)]) == [tf.constant(1.0)]
