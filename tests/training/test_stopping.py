"""What ends a run, and what is saved then: real processes and real signals."""

import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import time

import programs
import pytest
from conftest import ROOT
from runs import steps_of, train

from src.data import processes
from src.model_files import model_directory

TRAIN = [str(ROOT / 'train.py'), '--model_name', 'tiny', '--dataset', 'text']
TRAIN += ['--sample_every', '0', '--memory_saving_gradients', '--seq_length', '16']
# The main thread is in one operation that nothing interrupts, as in a long step.
BUSY = """
import hashlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from src.training import stopping
with stopping.stop_requests() as stop:
    print('ready', flush=True)
    hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)
"""
TIMEOUT = 120


@pytest.mark.parametrize('first, second, code', [
    (signal.SIGINT, signal.SIGINT, 130), (signal.SIGHUP, signal.SIGTERM, 143),
])  # fmt: skip
def test_the_second_signal_ends_it_even_in_the_middle_of_a_step(first, second, code):
    with programs.Program(['-c', BUSY], ROOT) as process:
        assert process.stdout.readline() == 'ready\n'
        process.send_signal(first)
        assert process.stderr.readline().startswith('stopping after this step; once more stops')
        time.sleep(0.01)
        process.send_signal(second)
        assert process.wait(TIMEOUT) == code


def test_a_reader_that_leaves_ends_the_run_saved(place):
    with programs.Program(TRAIN, place) as process:
        while '[3 |' not in process.stdout.readline():
            pass
        process.stdout.close()
        assert process.wait(TIMEOUT) == 128 + signal.SIGPIPE
        assert 'Traceback' not in process.stderr.read()
    assert re.search(r'model-\d+$', model_directory.latest('checkpoint/run1'))


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='there is no /dev/full')
def test_a_disk_that_is_full_of_its_output_ends_the_run_saved(place):
    with open('/dev/full', 'w') as full:  # as it starts and ends by itself
        result = subprocess.run(
            [sys.executable, *TRAIN], stdout=full, stderr=subprocess.PIPE, text=True,
            env={**os.environ, 'PYTHONUNBUFFERED': ''}, timeout=TIMEOUT,
        )  # fmt: skip
    assert result.returncode == 1 and 'No space left on device' in result.stderr
    assert 'Traceback' not in result.stderr and 'Exception ignored' not in result.stderr


def test_a_terminal_that_is_closed_ends_the_run_saved(place):
    terminal, its = pty.openpty()
    streams = dict.fromkeys(('stdin', 'stdout', 'stderr'), its)
    process = programs.Program(TRAIN, place, before=programs.at_a_terminal, **streams)
    os.close(its)
    seen, end = b'', time.time() + TIMEOUT
    while b'[3 |' not in seen:
        assert time.time() < end and select.select([terminal], [], [], 60)[0], seen
        seen += os.read(terminal, 10000)
    os.close(terminal)  # the kernel sends SIGHUP
    assert process.wait(TIMEOUT) in (0, 1)
    process.close()
    last = int(model_directory.latest('checkpoint/run1').rpartition('-')[2])
    assert last >= 3


def test_a_run_is_trained_by_one_process_alone(place):
    train(steps=1)
    before = sorted(os.listdir('checkpoint/run1'))
    with processes.locked('checkpoint/.run1.lock') as holder:
        assert holder is None
        with pytest.raises(
            ValueError, match=rf'run1 is being trained by process {os.getpid()} on '
        ):
            train(steps=2)
    assert sorted(os.listdir('checkpoint/run1')) == before
    train(steps=2)
    train(steps=1, run_name='run2')
    assert not list(place.glob('checkpoint/.*'))


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_saved_and_goes_on(place, run, number):
    process = programs.Program(TRAIN, place)
    printed = ''
    while '[5 |' not in printed:
        printed += process.stdout.readline()
    process.send_signal(number)
    rest, errors = process.communicate()
    printed += rest
    last = steps_of(printed)[-1]
    assert process.returncode == 0
    assert printed.endswith(f'interrupted\nSaving checkpoint/run1/model-{last}\n')
    assert 'Traceback' not in errors
    result = run([*TRAIN, '--steps', last + 2])
    assert f'Loading checkpoint checkpoint/run1/model-{last}\n' in result.stdout
    assert steps_of(result.stdout) == [last + 1, last + 2]


def test_a_run_that_was_killed_goes_on_from_its_last_checkpoint(place, run):
    process = programs.Program([*TRAIN, '--save_every', 2], place)  # saving most of the time
    while not list(place.glob('checkpoint/run1/model-1?.index')):
        time.sleep(0.01)
    process.kill()
    printed, _ = process.communicate()
    saved = model_directory.latest(place / 'checkpoint' / 'run1').rpartition('-')[2]
    result = run([*TRAIN, '--steps', saved])
    assert f'Loading checkpoint checkpoint/run1/model-{saved}\n' in result.stdout
    (resumed,) = steps_of(result.stdout)
    assert resumed == int(saved) >= steps_of(printed)[-1] - 2  # it was saved before that step
    assert not list(place.glob('checkpoint/run1/saving-*'))


def no_file_may_outgrow_60_kib():
    resource.setrlimit(resource.RLIMIT_FSIZE, (60 * 1024, 60 * 1024))


def test_a_full_disk_at_the_end_is_told_and_loses_nothing(place, run):
    assert run([*TRAIN, '--steps', 2]).returncode == 0
    before = {path.name: path.read_bytes() for path in (place / 'checkpoint' / 'run1').iterdir()}
    result = programs.result_of([*TRAIN, '--steps', 3], place, before=no_file_may_outgrow_60_kib)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith('checkpoint/run1 could not be written: ')
    after = {path.name: path.read_bytes() for path in (place / 'checkpoint' / 'run1').iterdir()}
    assert after.pop('loss.csv').startswith(before.pop('loss.csv'))
    assert before.pop('loss.png')[-8:] == after.pop('loss.png')[-8:]  # not cut off
    assert before.items() <= after.items()
    assert {name for name in set(after) - set(before) if not name.startswith('events.')} == set()
