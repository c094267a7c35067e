"""Results come in order, from other processes, and what goes wrong there is told here."""

import itertools
import os
import pathlib
import subprocess
import sys
import time

import pytest

from src.data import processes

ROOT = pathlib.Path(__file__).parents[2]  # not conftest's: each process would load TensorFlow


def later(argument):
    """What is asked for first is answered last. Returns the process as well."""
    if argument == 0:
        time.sleep(0.3)
    return argument, os.getpid()


@pytest.mark.parametrize('num_proc', [1, 2, 3])
def test_results_are_in_the_order_of_their_arguments(num_proc):
    results = list(processes.in_order(later, range(20), num_proc))
    assert [argument for argument, _ in results] == list(range(20))
    assert (os.getpid() in {process for _, process in results}) == (num_proc == 1)


@pytest.mark.parametrize('num_proc', [1, 2])
def test_arguments_are_taken_when_they_are_needed(num_proc):
    taken = []
    endless = (taken.append(n) or n for n in itertools.count())
    results = processes.in_order(later, endless, num_proc)
    assert [next(results)[0] for _ in range(3)] == [0, 1, 2]
    assert len(taken) <= 3 + 2 * num_proc
    results.close()


@pytest.mark.parametrize('num_proc', [1, 2])
def test_what_is_raised_is_raised_here(num_proc):
    results = processes.in_order(int, ['1', '2', 'three', '4'], num_proc)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(ValueError, match='three'):
        next(results)


def test_a_process_that_is_gone_is_told():
    with pytest.raises(ChildProcessError, match='choose a smaller --num_proc'):
        list(processes.in_order(os._exit, [1] * 9, 2))


PROGRAM = """
import os, time
from src.data import processes

def identify(argument):
    print(os.getpid(), flush=True)
    time.sleep(argument)

if __name__ == '__main__':
    list(processes.in_order(identify, [0.2] * 10**6, 2))
"""


def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    (tmp_path / 'program.py').write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, 'program.py'], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )  # fmt: skip
    seen = set()
    while len(seen) < 2:
        seen.add(int(process.stdout.readline()))
    process.kill()
    process.communicate()  # ends when nobody can write into it any more
    deadline = time.monotonic() + 20
    while any(os.path.exists(f'/proc/{pid}/fd/0') for pid in seen):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_lock_is_held_by_one_and_dies_with_it(tmp_path):
    path = tmp_path / 'lock'
    holding = 'import sys\nfrom src.data import processes\nwith processes.locked(sys.argv[1]) as '
    holding += 'other:\n    print(other, flush=True)\n    sys.stdin.read()'
    process = subprocess.Popen(
        [sys.executable, '-c', holding, str(path)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == 'None\n'
    with processes.locked(str(path)) as holder:
        assert holder.startswith(f'process {process.pid} on ')
    process.kill()
    process.communicate()
    with processes.locked(str(path)) as holder:
        assert holder is None
        assert path.read_text().startswith(f'process {os.getpid()} on ')
