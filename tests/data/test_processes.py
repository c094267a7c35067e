"""Results come in order, from other processes, and what goes wrong there is told here."""

import itertools
import os
import time

import pytest

from src.data import processes


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
