"""Common spans of random sequences, beside looking for all of them."""

import random

import pytest

from src.evaluation import suffix_automaton


def occurs(span, numbers):
    return any(numbers[i : i + len(span)] == span for i in range(len(numbers)))


@pytest.mark.parametrize('seed', range(40))
def test_it_finds_what_looking_for_all_spans_finds(seed):
    choose = random.Random(seed)
    alphabet = choose.randint(1, 4)
    here, *others = [
        [choose.randrange(alphabet) for _ in range(choose.randint(0, 30))] for _ in range(3)
    ]
    others[0].insert(len(others[0]) // 2, None)
    automaton = suffix_automaton.SuffixAutomaton(here)
    for numbers in others:
        automaton.read(iter(numbers))
    longest = list(automaton.longest())
    read = others[0] + others[1]
    for end, (length, there) in enumerate(longest, 1):
        fitting = (n for n in range(end, 0, -1) if any(occurs(here[end - n : end], o)
                                                      for o in others))  # fmt: skip
        assert length == next(fitting, 0)
        assert read[there - length + 1 : there + 1] == here[end - length : end] or not length
    assert len(longest) == len(here)


def test_a_sequence_is_in_itself():
    numbers = [1, 2, 1, 1, 2, 3] * 50
    automaton = suffix_automaton.SuffixAutomaton(numbers)
    automaton.read(numbers)
    assert list(automaton.longest())[-1] == (300, 299)
    assert len(automaton.nexts) <= 2 * len(numbers)
