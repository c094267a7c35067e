"""What is asked of a text: what is typed, what is in files, what cannot be meant."""

import numpy as np
import pytest

from src.sampling import sample_config
from src.sampling.sample_config import SampleConfig


@pytest.mark.parametrize(
    'stop, expected',
    [
        ('\\n', ['\n']),
        ('a\\tb', ['a\tb']),
        ('["\\n", "Q:"]', ['\n', 'Q:']),
        ('<|endoftext|>', ['<|endoftext|>']),
    ],
)
def test_a_stop_may_have_line_breaks_typed_with_a_backslash(stop, expected):
    assert SampleConfig(stop=stop).stops() == expected
    if len(expected) == 1:
        assert SampleConfig(truncate=stop).stops() == expected


def test_endoftext_is_the_token_and_a_number_is_the_id(small):
    end = small.encoder['<|endoftext|>']
    bias = SampleConfig(logit_bias={'<|endoftext|>': -3, '7': 2, ' the': 1}).controls(small, 1024)
    expected = np.zeros(1024)
    expected[end], expected[7] = -3, 2
    expected[small.encode(' the')] = 1
    np.testing.assert_array_equal(bias.bias, expected)
    with pytest.raises(ValueError, match='logit_bias has the id 1024; the model has 0 to 1023'):
        SampleConfig(logit_bias={'1024': 1}).controls(small, 1024)


def test_what_the_vocabulary_cannot_write_is_not_said(small):
    assert SampleConfig().controls(small, 1024) is None
    bias = SampleConfig().controls(small, 1026).bias
    np.testing.assert_array_equal(bias, [*[0] * 1024, -np.inf, -np.inf])


@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_a_byte_order_mark_is_no_part_of_a_word(small, tmp_path, mark):
    path = tmp_path / 'words'
    path.write_bytes(f'{mark}king\r\n<|endoftext|>\n'.encode())
    banned = SampleConfig(bad_words_file=str(path)).controls(small, 1024).banned.tolist()
    phrases = [[each for each in ids if each != sample_config.ANY] for ids in banned]
    end = small.encoder['<|endoftext|>']
    assert phrases[:2] == [small.encode('king'), small.encode(' king')]
    assert phrases[2:] == [[end], [*small.encode(' '), end]]


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / 'words').write_bytes('è'.encode('latin-1'))
    with pytest.raises(ValueError, match='/words is not UTF-8, at byte 0; save it in the encoding'):
        SampleConfig(bad_words_file=str(tmp_path / 'words'))


@pytest.mark.parametrize(
    'options, complaint',
    [
        ({'logit_bias': '{"a": NaN}'}, 'with numbers of -1e+06 to 1e+06'),
        ({'logit_bias': '{"a": Infinity}'}, 'with numbers of -1e+06 to 1e+06'),
        ({'logit_bias': '{"a": true}'}, 'it must be like'),
        ({'logit_bias': '[' * 100_000}, 'which is not JSON'),
        ({'logit_bias': '{"a":' * 100_000}, 'which is not JSON'),
        ({'stop': '[' * 100_000}, 'which is not JSON'),
        ({'stop': '[END]'}, 'a text that begins with [ is typed in a list: \'["[END]"]\''),
        ({'logit_bias': 'the: 2'}, '(char 0); it must be like \'{" the": -2}\''),
        ({'num_beams': 10**6}, 'num_beams is 1000000; it must be 1000 or less'),
        ({'include_prefix': 'no'}, "--include_prefix is 'no'; it must be True or False"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(options, complaint):
    with pytest.raises(ValueError) as error:
        SampleConfig(**options)
    assert complaint in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    'options, complaint',
    [
        ({'length': 10**12}, 'length is 1000000000000; it must be 10000000 or less'),
        ({'batch_size': 10**6}, 'batch_size is 1000000; it must be 10000 or less'),
        ({'temperature': float('inf')}, 'temperature is inf; it must be a number'),
        ({'seed': 1.5}, 'seed is 1.5; it must be a whole number, 0 or more'),
    ],
)
def test_what_no_memory_could_hold_is_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        sample_config.check(**options)
