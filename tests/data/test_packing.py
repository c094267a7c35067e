import collections
import itertools
import json
import tracemalloc

import numpy as np
import pytest

from src.data import packing

END = 0


def of_sizes(*sizes, first=1):
    """A chunk of texts of so many tokens, each with its end behind it; no other token twice."""
    numbers = itertools.count(first)
    texts = [[*itertools.islice(numbers, size), END] for size in sizes]
    return np.array([token for text in texts for token in text], np.uint16)


def texts_of(chunk):
    """The texts of a chunk, each with its end."""
    texts, text = [], []
    for token in chunk.tolist():
        text.append(token)
        if token in (END, ~END):
            texts, text = [*texts, text], []
    return [*texts, text] if text else texts


def marked(chunk, every):
    """The chunk with every n-th token not to be learnt."""
    chunk = chunk.astype(np.int32)
    chunk[::every] = ~chunk[::every]
    return chunk


DATASETS = {
    'short': [of_sizes(*[3, 1, 5, 2, 7] * 9)],
    'long': [of_sizes(100, 2, 29, 4, 50)],
    'as long as a window, and one more or less': [of_sizes(6, 7, 8, 9, 14, 15, 16)],
    'no ends': [of_sizes(5)[:-1], of_sizes(30, 7, first=50)[:-1], of_sizes(7, first=90)[:-1]],
    'nothing': [of_sizes(4), np.array([], np.uint16), of_sizes(0, 0, 3, 0, first=50)],
    'one token': [np.array([5], np.uint16)],
    'one end': [np.array([END], np.uint16)],
    'marks': [marked(of_sizes(3, 20, 4), 3), of_sizes(9, 3, first=100)],
}  # fmt: skip


def epoch(sampler, length):
    """The windows of the epoch that begins."""
    windows, number = [], sampler.epoch
    while True:
        window = sampler.sample(length)
        if sampler.epoch != number:
            return windows
        windows.append(window.tolist())


def learnt_pairs(tokens):
    """How often each token is learnt behind another."""
    pairs = itertools.pairwise(tokens)
    return collections.Counter((max(a, ~a), b) for a, b in pairs if b >= 0)


@pytest.mark.parametrize('name', DATASETS)
@pytest.mark.parametrize('length', [2, 8, 32])
@pytest.mark.parametrize('seed', [1, 2])
def test_every_token_is_learnt_once_behind_the_token_before_it(name, length, seed, monkeypatch):
    monkeypatch.setattr(packing, 'BLOCK', 7)
    monkeypatch.setattr(packing, 'OPEN', 3)
    texts = [text for chunk in DATASETS[name] for text in texts_of(chunk)]
    windows = epoch(packing.PackedSampler(DATASETS[name], END, seed), length)
    assert all(len(window) == length for window in windows)
    expected = sum(map(learnt_pairs, texts), collections.Counter())
    found = sum(map(learnt_pairs, windows), collections.Counter())
    assert not expected - found
    # What is found besides is the beginning of a text behind the end of another.
    besides = found - expected
    assert {before for before, _ in besides} <= {END}
    assert not collections.Counter(
        {first: count for (_, first), count in besides.items()}
    ) - collections.Counter(text[0] for text in texts)


@pytest.mark.parametrize('name', DATASETS)
def test_a_text_that_fits_into_a_window_lies_in_one(name):
    length = 8
    windows = epoch(packing.PackedSampler(DATASETS[name], END, 1), length)
    lines = [f' {" ".join(map(str, window))} ' for window in windows]
    for text in (text for chunk in DATASETS[name] for text in texts_of(chunk)):
        if len(text) <= length and text[0] not in (END, ~END):
            assert sum(f' {" ".join(map(str, text))} ' in line for line in lines) == 1


def test_windows_by_hand():
    sampler = packing.PackedSampler([of_sizes(3, 9, 1)], END, 1)
    found = {tuple(window) for window in epoch(sampler, 6)}
    # 4 to 12 and their end are two pieces, of which the second goes on behind 9
    assert found == {(4, 5, 6, 7, 8, 9), (~9, 10, 11, 12, 0, ~0), (1, 2, 3, 0, 13, 0)}
    assert (sampler.total_size, sampler.longest) == (16, 16)


def test_an_epoch_is_another_order_of_the_same_texts():
    sampler = packing.PackedSampler(DATASETS['short'], END, 1)
    epochs = [epoch(sampler, 16)]
    for number in range(1, 4):
        other = packing.PackedSampler(DATASETS['short'], END, 1)
        other.restore({'seed': 1, 'epoch': number, 'drawn': 0})
        epochs.append(epoch(other, 16))
    learnt = [sorted(token for window in each for token in window if token > 0) for each in epochs]
    assert learnt[0] == learnt[1] == learnt[2] == learnt[3]
    assert len({str(each) for each in epochs}) == 4
    other_seed = epoch(packing.PackedSampler(DATASETS['short'], END, 2), 16)
    assert str(other_seed) != str(epochs[0])


@pytest.mark.parametrize('before', [0, 1, 9, 11, 12, 13, 40])
def test_it_goes_on_where_it_was(before):
    sampler = packing.PackedSampler(DATASETS['short'], END, 3)
    for _ in range(before):
        sampler.sample(16)
    state = json.loads(json.dumps(sampler.state()))
    then = [sampler.sample(16).tolist() for _ in range(30)]
    other = packing.PackedSampler(DATASETS['short'], END, 4)
    other.sample(16)
    other.restore(state)
    assert [other.sample(16).tolist() for _ in range(30)] == then


def test_little_room_is_left():
    random = np.random.default_rng(0)
    sizes = list(enumerate(random.integers(5, 60, 5000)))
    groups = list(packing.packed(sizes, 256))
    total = sum(size for _, size in sizes)
    assert sorted(index for group in groups for index in group) == list(range(5000))
    assert all(sum(sizes[index][1] for index in group) <= 256 for group in groups)
    assert total / (256 * len(groups)) > 0.98


def test_the_tokens_are_not_copied():
    chunk = np.ones(10**7, np.uint16)
    chunk[999::1000] = END
    tracemalloc.start()
    packing.PackedSampler([chunk], END, 1).sample(1024)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < chunk.nbytes / 2
