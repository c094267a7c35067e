"""Texts join and leave between two tokens, and nobody waits for the end of another."""

import collections
import threading
import time

import numpy as np
import pytest
from served import WAIT, Alphabet, Asked, started, until

from src.sampling import litert, litert_slots
from src.serving import refused


@pytest.fixture
def alphabet():
    """Slots of which each step is permitted by the test."""
    slots = Alphabet()
    slots.permits = threading.Semaphore(0)
    return slots


def test_a_short_text_comes_and_goes_beside_a_long_one(alphabet, letters):
    with started(alphabet) as scheduler:
        long = Asked(letters, 'A', max_tokens=20)
        scheduler.submit(long.texts)
        long.wait(lambda asked: asked.text == ['B'])  # of the prompt; no step was permitted
        alphabet.permits.release(3)
        long.wait(lambda asked: asked.text == ['BCDE'])
        short = Asked(letters, 'a', max_tokens=3)
        scheduler.submit(short.texts)
        alphabet.permits.release(3)
        short.done()
        assert short.text == ['bcd'] and short.ends[0].reason == 'length'
        assert not long.ends
        alphabet.permits.release(100)
        long.done()
    assert long.text == ['BCDEFGHIJKLMNOPQRSTU'] and long.ends[0].tokens == 20
    assert {len(each) - 1 for each in alphabet.log if each[0] == 'step'} == {1, 2}
    assert alphabet.length == [0, 0]


def test_a_long_prompt_is_read_between_the_tokens_of_others(alphabet, letters):
    with started(alphabet) as scheduler:
        first = Asked(letters, 'A', max_tokens=12)
        scheduler.submit(first.texts)
        first.wait(lambda asked: asked.text == ['B'])
        long = Asked(letters, 'abcdefghijklmnopq', max_tokens=1)  # 17 tokens, five pieces
        scheduler.submit(long.texts)
        alphabet.permits.release(100)
        long.done()
        first.done()
    assert long.text == ['r'] and first.text == ['BCDEFGHIJKLM']
    kinds = [each[0] for each in alphabet.log]
    assert kinds.count('read') == 6
    between = ''.join(kind[0] for kind in kinds)[1:]
    assert 'rr' not in between  # one piece, and then a token for whoever is running


def test_prompts_are_read_in_turns(letters):
    slots = Alphabet(rows=3)
    with started(slots) as scheduler:
        asked = [
            Asked(letters, prompt, max_tokens=1)
            for prompt in ('abcdefghijklmnop', 'ABCDEFGHIJKL', '1')
        ]
        with scheduler._changed:  # all are there at once
            for each in asked:
                scheduler._waiting.append(collections.deque(each.texts))
            scheduler._changed.notify()
        for each in asked:
            each.done()
    assert [each.text for each in asked] == [['q'], ['M'], ['2']]
    assert len({slot for _, slot, *_ in slots.log[:3]}) == 3  # a piece of each comes first


def test_as_many_prompts_are_read_at_once_as_the_slots_can_read(letters):
    slots, groups = Alphabet(rows=4), []
    slots.pieces, read = 3, slots.read

    def told(some):
        groups.append([(slot, len(tokens), wanted) for slot, tokens, wanted in some])
        return read(some)

    slots.read = told
    with started(slots) as scheduler:
        prompts = ['A' * 6, 'B', 'C' * 4, 'D' * 9]
        asked = Asked(letters, prompts, max_tokens=2, echo=True, logprobs=0)
        scheduler.submit(asked.texts)
        asked.done()
    assert asked.text == ['AAAAAABC', 'BCD', 'CCCCDE', 'DDDDDDDDDEF']
    first, second, *rest = ([size for _, size, _ in group] for group in groups)
    assert (first, second, rest) == ([4, 1, 4], [4, 2], [[4], [1]])
    assert all(size == wanted for group in groups for _, size, wanted in group)  # logprobs are


def test_a_prompt_of_several_texts_is_read_once(alphabet, letters):
    alphabet.rows, alphabet.length = 4, [0] * 4
    with started(alphabet) as scheduler:
        several = Asked(letters, ['abcdef'] * 3, max_tokens=4)
        scheduler.submit(several.texts)
        several.wait(lambda asked: asked.text == ['g'] * 3)
        later = Asked(letters, 'abcdef', max_tokens=2)
        told = Asked(letters, 'abcdef', max_tokens=1, echo=True, logprobs=0)
        other = Asked(letters, 'abcde', max_tokens=1)
        for asked in (later, told, other):
            scheduler.submit(asked.texts)
        alphabet.permits.release(100)
        for asked in (several, later, told, other):
            asked.done()
    assert several.text == ['ghij'] * 3 and later.text == ['gh']
    assert told.text == ['abcdefg'] and other.text == ['f']
    read = [size for kind, _, *size in alphabet.log if kind == 'read']
    assert read == [[4], [2]] * 2 + [[4], [1]]  # of logprobs, each is told its own
    assert [kind for kind, *_ in alphabet.log].count('copy') == 3


def test_the_next_reads_where_the_one_that_read_leaves(letters):
    slots = Alphabet()
    read, reads = slots.read, threading.Semaphore(0)
    slots.read = lambda some: reads.acquire(timeout=WAIT) and read(some)
    with started(slots) as scheduler:
        gone, other = (Asked(letters, 'abcdefghi', max_tokens=2) for _ in range(2))
        for asked in (gone, other):
            scheduler.submit(asked.texts)
        until(lambda: len(scheduler.running) == 2)
        gone.texts[0].cancelled = True
        reads.release(100)
        other.done()
    assert other.text == ['jk'] and not gone.pieces
    assert {kind for kind, *_ in slots.log} == {'read', 'step'}


def test_requests_take_turns_in_the_queue(alphabet, letters):
    alphabet.rows = 1
    with started(alphabet, queue=100) as scheduler:
        many = Asked(letters, ['A', 'B', 'C', 'D'], max_tokens=2)
        scheduler.submit(many.texts)
        many.wait(lambda asked: asked.pieces)
        single = Asked(letters, 'a', max_tokens=2)
        scheduler.submit(single.texts)
        alphabet.permits.release(100)
        single.done()
        many.done()
    times = sorted((text.ended, name) for name, asked in (('many', many), ('single', single))
                   for text in asked.texts)  # fmt: skip
    assert [name for _, name in times].index('single') <= 2


def test_what_is_cancelled_gets_no_token_more(alphabet, letters):
    with started(alphabet) as scheduler:
        gone, other = Asked(letters, 'A', max_tokens=30), Asked(letters, 'a', max_tokens=8)
        scheduler.submit(gone.texts)
        scheduler.submit(other.texts)
        alphabet.permits.release(1)  # the step that it may be in when the second comes
        other.wait(lambda asked: asked.pieces)
        waits = Asked(letters, '1', max_tokens=1)  # all slots are taken
        scheduler.submit(waits.texts)
        until(lambda: scheduler.waiting == 1)
        for asked in (gone, waits):
            for text in asked.texts:
                text.cancelled = True
        drawn = gone.texts[0].drawn
        alphabet.permits.release(100)
        other.done()
    assert gone.texts[0].drawn <= drawn + 1  # of the step that it was in
    assert not gone.ends and not waits.pieces and not waits.ends
    assert other.text == ['bcdefghi']


def test_what_takes_too_long_is_told_so(alphabet, letters):
    with started(alphabet) as scheduler:
        late = [Asked(letters, 'A', timeout=0.2, max_tokens=9) for _ in range(3)]
        for each in late:
            scheduler.submit(each.texts)
        late[0].wait(lambda asked: asked.pieces)
        for each in late:
            until(lambda each=each: each.texts[0].deadline < time.monotonic())
        alphabet.permits.release(100)
        for each in late:
            each.done()
            assert each.errors[0].status == 504 and '0.2 s' in str(each.errors[0])


def test_to_come_again_is_said_by_how_long_texts_take_and_not_how_long_they_waited(letters):
    slots = Alphabet(rows=1)
    with started(slots, queue=100) as scheduler:
        scheduler._seconds = 0.0
        asked = [Asked(letters, 'A', max_tokens=2) for _ in range(20)]
        for each in asked:
            each.texts[0].begun -= 1000  # as if all had come long ago
            scheduler.submit(each.texts)
        for each in asked:
            each.done()
        until(lambda: not scheduler.running)
        assert 0 < scheduler._seconds < 10


def test_what_waits_while_it_compiles_is_refused_at_once_when_it_stops(letters):
    slots, go = Alphabet(), threading.Event()
    slots.warm_up = lambda: go.wait(WAIT)
    with started(slots) as scheduler:
        early = Asked(letters, ['A', 'B'], max_tokens=2)
        scheduler.submit(early.texts)
        scheduler.stop()
        early.done()
        assert not go.is_set() and [each.status for each in early.errors.values()] == [503, 503]
        go.set()


def test_a_full_queue_says_when_to_come_again(alphabet, letters):
    with started(alphabet, queue=3) as scheduler:
        asked = [Asked(letters, 'A', max_tokens=2) for _ in range(5)]
        for each in asked:
            until(lambda: scheduler.waiting < 3)
            scheduler.submit(each.texts)
        until(lambda: len(scheduler.running) == 2)
        assert scheduler.waiting == 3
        with pytest.raises(refused.Refused, match='try again in') as error:
            scheduler.submit(Asked(letters, 'A').texts)
        assert error.value.status == 429
        assert 1 <= int(error.value.headers['Retry-After']) <= 60
        alphabet.permits.release(100)
        for each in asked:
            assert each.done().text == ['BC']


def test_a_mistake_ends_what_it_met_and_the_next_is_served(alphabet, letters, capsys):
    with started(alphabet) as scheduler:
        met = Asked(letters, 'A', max_tokens=9)
        scheduler.submit(met.texts)
        met.wait(lambda asked: asked.pieces)
        alphabet.wrong = RuntimeError('something')
        alphabet.permits.release(100)
        assert met.done().errors[0].status == 500
        after = Asked(letters, 'A', max_tokens=3)
        scheduler.submit(after.texts)
        assert after.done().text == ['BCD']
    assert 'RuntimeError: something' in capsys.readouterr().err


def test_logits_that_are_no_numbers_end_one_text(alphabet, letters, capsys):
    alphabet.tokens = [letters.encode('C')[0]]
    with started(alphabet) as scheduler:
        both = Asked(letters, ['A', 'a'], max_tokens=4)
        scheduler.submit(both.texts)
        alphabet.permits.release(100)
        both.done()
    assert both.text == ['BC', 'bcde'] and both.errors[0].status == 500
    assert capsys.readouterr().err.startswith('The logits are NaN')


def test_a_mistake_in_drawing_ends_one_text(alphabet, letters, capsys):
    with started(alphabet) as scheduler:
        both = Asked(letters, ['A', 'a'], max_tokens=4)
        both.texts[0].uniforms = 'no numbers'
        scheduler.submit(both.texts)
        alphabet.permits.release(100)
        both.done()
    assert both.text == ['', 'bcde'] and both.errors[0].status == 500
    assert 'Traceback' in capsys.readouterr().err


def test_at_the_end_what_has_begun_is_finished(alphabet, letters):
    with started(alphabet) as scheduler:
        asked = Asked(letters, ['A', 'B', 'C'], max_tokens=3)
        scheduler.submit(asked.texts)
        asked.wait(lambda asked: asked.pieces)
        ending = threading.Thread(target=scheduler.end)
        ending.start()
        until(lambda: scheduler._ending)
        with pytest.raises(refused.Refused, match='about to end'):
            scheduler.submit(Asked(letters, 'A').texts)
        alphabet.permits.release(100)
        ending.join(WAIT)
    assert asked.text == ['BCD', 'CDE', 'DEF']


def test_what_is_stopped_is_refused_before_its_next_token(alphabet, letters):
    with started(alphabet) as scheduler:
        asked = Asked(letters, ['A', 'B', 'C'], max_tokens=20)  # the third has no slot
        scheduler.submit(asked.texts)
        asked.wait(lambda asked: asked.pieces)
        scheduler.stop()
        alphabet.permits.release(100)
        asked.done()
        assert [error.status for error in asked.errors.values()] == [503] * 3
        assert max(text.drawn for text in asked.texts) <= 2  # of the step that it was in
        with pytest.raises(refused.Refused, match='about to end'):
            scheduler.submit(Asked(letters, 'A').texts)


def test_what_cannot_be_compiled_is_told(alphabet, letters):
    alphabet.wrong = ValueError('no memory')
    with started(alphabet) as scheduler:
        assert scheduler.ready.wait(WAIT)
        assert str(scheduler.failed) == 'no memory'
        with pytest.raises(refused.Refused):
            scheduler.submit(Asked(letters, 'A').texts)


def test_a_prompt_that_fills_the_window_and_one_that_nothing_is_wanted_of(alphabet, letters):
    alphabet.permits = None
    with started(alphabet) as scheduler:
        full = Asked(letters, [[1] * 31 + [2]], max_tokens=9)
        nothing = Asked(letters, 'A', max_tokens=0)
        for each in (full, nothing):
            scheduler.submit(each.texts)
            each.done()
    assert full.text == [letters.decode([3])] and full.ends[0] == ('length', 1, 0)
    assert nothing.text == [''] and nothing.ends[0] == ('length', 0, 0)
    assert ('read', 1, 1) not in alphabet.log


RANDOM = np.random.default_rng(3)


def random_request(letters):
    options = {'max_tokens': int(RANDOM.integers(0, 30)), 'seed': int(RANDOM.integers(100))}
    choices = {
        'temperature': [0, 0.5, 1.3], 'top_k': [1, 5, 40], 'top_p': [0, 0.3, 0.9],
        'presence_penalty': [-1, 2], 'frequency_penalty': [0.7], 'repetition_penalty': [1.5],
        'logit_bias': [{'3': 50, '96': -100}, {'5': -100}], 'stop': ['a', ['!!', 'B']],
        'logprobs': [0, 3], 'echo': [True], 'n': [2], 'best_of': [2],
    }  # fmt: skip
    for name, values in choices.items():
        if RANDOM.random() < 0.3:
            options[name] = values[RANDOM.integers(len(values))]
    if options.get('n', 1) > options.get('best_of', 2):
        del options['best_of']
    ids = RANDOM.integers(0, 96, RANDOM.integers(1, 32)).tolist()
    return lambda: Asked(letters, [letters.decode(ids), ids], **options)


@pytest.mark.parametrize('engine', ['tensorflow', 'litert'])
def test_each_gets_what_it_gets_alone(engine, side_by_side, exported, letters):
    slots = side_by_side
    if engine == 'litert':
        slots = litert_slots.Slots(litert.LiteRT(exported('float32'), threads=1), 4)
    requests = [random_request(letters) for _ in range(16)]
    with started(slots, queue=1000) as scheduler:
        scheduler.slots.warm_up = lambda: None  # it was, once
        alone = []
        for request in requests:
            alone.append(request())
            scheduler.submit(alone[-1].texts)
            alone[-1].done()
        for _ in range(2):
            order = RANDOM.permutation(len(requests))
            together = {i: requests[i]() for i in order}
            for i in order:
                scheduler.submit(together[i].texts)
            for i, asked in together.items():
                asked.done()
                assert asked.text == alone[i].text
                assert asked.entries == alone[i].entries  # to the last bit
                assert asked.ends == alone[i].ends
