"""What OpenAI's API answers where texts are asked for.

The model is an alphabet, in which each letter is followed by the next.
"""

import math

import pytest
from served import completed, told


def test_a_completion(letters):
    (response,) = completed(letters, {'max_tokens': 3, 'user': 'me'})
    answer = response.json()
    assert response.status_code == 200
    assert answer.pop('id').startswith('cmpl-') and answer.pop('created') > 1.6e9
    assert answer == {
        'object': 'text_completion',
        'model': 'alphabet',
        'system_fingerprint': 'fp_0123456789',
        'choices': [{'text': 'BCD', 'index': 0, 'logprobs': None, 'finish_reason': 'length'}],
        'usage': {'prompt_tokens': 1, 'completion_tokens': 3, 'total_tokens': 4},
    }


@pytest.mark.parametrize(
    'body, texts, reasons, tokens',
    [
        ({}, ['BCDEFGHIJKLMNOPQ'], ['length'], (1, 16)),
        ({'prompt': ['a', 'XY'], 'max_tokens': 2}, ['bc', 'Z['], ['length'] * 2, (3, 4)),
        ({'prompt': [32, 33], 'max_tokens': 2}, ['CD'], ['length'], (2, 2)),
        ({'prompt': [[32], [64]], 'max_tokens': 1}, ['B', 'b'], ['length'] * 2, (2, 2)),
        ({'n': 2, 'max_tokens': 2}, ['BC', 'BC'], ['length'] * 2, (1, 4)),
        ({'n': 1, 'best_of': 3, 'max_tokens': 2}, ['BC'], ['length'], (1, 6)),
        ({'stop': 'E'}, ['BCD'], ['stop'], (1, 4)),
        ({'stop': ['FG', 'x', 'EF'], 'echo': True}, ['ABCD'], ['stop'], (1, 5)),
        ({'prompt': '|', 'max_tokens': 9}, ['}~ \n'], ['stop'], None),
        ({'max_tokens': 0, 'echo': True}, ['A'], ['length'], (1, 0)),
        ({'max_tokens': 100}, [None], ['length'], (1, 32)),  # the window is full
        ({'logit_bias': {'33': -100, '40': 60}, 'max_tokens': 2}, ['II'], ['length'], (1, 2)),
        ({'prompt': None, 'max_tokens': 2}, ['!"'], ['length'], (1, 2)),
        ({'prompt': '', 'max_tokens': 1, 'echo': True}, ['!'], ['length'], (1, 1)),
        ({'temperature': None, 'n': None, 'stop': None, 'max_tokens': 1}, ['B'], ['length'], None),
        ({'top_k': -1, 'top_p': 0, 'repetition_penalty': 1, 'max_tokens': 1}, ['B'], ['length'],
         None),
    ],
)  # fmt: skip
def test_what_completions_are_made_of(letters, body, texts, reasons, tokens):
    (response,) = completed(letters, body)
    answer = response.json()
    choices = answer['choices']
    if texts != [None]:
        assert [choice['text'] for choice in choices] == texts
    assert [choice['finish_reason'] for choice in choices] == reasons
    assert [choice['index'] for choice in choices] == list(range(len(choices)))
    if tokens:
        usage = answer['usage']
        assert (usage['prompt_tokens'], usage['completion_tokens']) == tokens


def test_logprobs_of_the_prompt_and_of_the_text(letters):
    (response,) = completed(
        letters, {'prompt': 'AC', 'max_tokens': 2, 'logprobs': 1, 'echo': True, 'temperature': 0}
    )
    logprobs = response.json()['choices'][0]['logprobs']
    assert logprobs['tokens'] == ['A', 'C', 'D', 'E']
    assert logprobs['text_offset'] == [0, 1, 2, 3]
    one = -math.log(1 + 96 * math.exp(-50))
    expected = [None, one - 50, one, one]
    assert logprobs['token_logprobs'] == pytest.approx(expected, abs=1e-12)
    first, second, *others = logprobs['top_logprobs']
    assert first is None and set(second) == {'B', 'C'}  # the likeliest, and what is there
    assert others == [{'D': pytest.approx(one)}, {'E': pytest.approx(one)}]


def test_logprobs_without_the_prompt_count_from_its_beginning(letters):
    (response,) = completed(letters, {'prompt': 'ABC', 'max_tokens': 2, 'logprobs': 0})
    logprobs = response.json()['choices'][0]['logprobs']
    assert logprobs['text_offset'] == [3, 4] and logprobs['tokens'] == ['D', 'E']
    assert [set(top) for top in logprobs['top_logprobs']] == [{'D'}, {'E'}]


def test_the_token_that_ends_a_text_is_told_but_not_in_it(letters):
    (response,) = completed(letters, {'prompt': '|', 'max_tokens': 9, 'logprobs': 0})
    (choice,) = response.json()['choices']
    assert choice['text'] == '}~ \n' and choice['finish_reason'] == 'stop'
    assert choice['logprobs']['tokens'] == [*'}~ \n', '<|endoftext|>']
    assert response.json()['usage']['completion_tokens'] == 5


def test_what_an_evaluation_harness_asks(letters):
    """The logprobs of a prompt alone, whose first token nothing predicts."""
    body = {'prompt': [[32, 33, 34], [64, 65]], 'max_tokens': 0, 'logprobs': 1, 'echo': True}
    (response,) = completed(letters, body)
    answer = response.json()
    assert [choice['text'] for choice in answer['choices']] == ['ABC', 'ab']
    assert [len(c['logprobs']['tokens']) for c in answer['choices']] == [3, 2]
    assert answer['choices'][0]['logprobs']['token_logprobs'][0] is None
    assert answer['usage']['completion_tokens'] == 0


def test_a_stream_is_the_same_text(letters):
    body = {'max_tokens': 5, 'stop': 'EG', 'logprobs': 1, 'echo': True}
    plain, stream = completed(
        letters, body, {**body, 'stream': True, 'stream_options': {'include_usage': True}}
    )
    *events, usage, done = told(stream)
    assert done == '[DONE]'
    choices = [event['choices'][0] for event in events]
    assert ''.join(choice['text'] for choice in choices) == plain.json()['choices'][0]['text']
    assert [choice['finish_reason'] for choice in choices[-2:]] == [None, 'length']
    assert all(event['usage'] is None for event in events)
    assert usage['choices'] == [] and usage['usage'] == plain.json()['usage']
    assert len({event['id'] for event in [*events, usage]}) == 1
    whole = plain.json()['choices'][0]['logprobs']
    for name in whole:
        pieces = [choice['logprobs'][name] for choice in choices if choice['logprobs']]
        assert sum(pieces, []) == whole[name]


def test_a_stream_of_several_texts(letters):
    (stream,) = completed(letters, {'prompt': ['A', 'a'], 'n': 2, 'max_tokens': 3, 'stream': True})
    *events, done = told(stream)
    texts = {}
    for event in events:
        assert 'usage' not in event
        choice = event['choices'][0]
        texts[choice['index']] = texts.get(choice['index'], '') + choice['text']
    assert texts == {0: 'BCD', 1: 'BCD', 2: 'bcd', 3: 'bcd'} and done == '[DONE]'
