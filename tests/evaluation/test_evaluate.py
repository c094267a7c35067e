"""Losses, surprisals and choices of the tiny model, beside the oracle's and by the real program."""

import json
import re

import numpy as np
import oracle
import programs
import pytest
import started
from oracle import brute_force, numpy_tree

from src import encoder, model
from src.command_line import flags
from src.evaluation import evaluate
from src.model_files import architecture, checkpoint
from src.sampling import generation

TEXT = 'All the world is a stage,\nand all the men and women merely players.'


@pytest.fixture
def place(models_dir, monkeypatch):
    monkeypatch.chdir(models_dir.parent)
    (models_dir.parent / 'text').write_text(TEXT)
    return models_dir.parent


def config(**options):
    return evaluate.EvaluateConfig(model_name='tiny', **options)


def numbers(capsys, **options):
    evaluate.evaluate(config(**options))
    lines = capsys.readouterr().out.splitlines()
    return dict(line.split(' ', 1) for line in lines if not line.startswith('{'))


@pytest.mark.parametrize('options, stride', [({}, 16), ({'stride': 1}, 1), ({'stride': 31}, 31)])
def test_the_loss_is_the_mean_over_each_token_alone(place, capsys, options, stride):
    (place / 'other').write_text('Short.')
    loaded = generation.load('tiny')
    chunks = [loaded.encoder.encode(text) for text in ('Short.', TEXT)]
    expected = [cost for ids in chunks for cost in brute_force(loaded.lm, ids, 32, stride)]
    found = numbers(capsys, dataset='[to][et]*', **options)
    assert float(found['loss']) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(found['perplexity']) == pytest.approx(np.exp(np.mean(expected)), rel=1e-5)
    assert float(found['bits_per_byte']) == pytest.approx(
        sum(expected) / np.log(2) / (len('hort.') + len(TEXT) - 1), rel=1e-5
    )
    assert list(found)[3:] == ['tokens'] and int(found['tokens']) == len(expected)


def test_bytes_are_those_of_the_text(place, openais):
    text = 'naïve 大规模<|endoftext|>🙂'
    ids = openais.encode_to_numpy(text)
    assert evaluate.bytes_of(openais)[ids].sum() == len(text.encode())
    assert openais.encoder['<|endoftext|>'] in ids


@pytest.mark.parametrize('text', [TEXT, 'ab', TEXT * 40])
def test_a_model_of_zeros_is_as_perplexed_as_its_vocabulary_is_large(place, capsys, text):
    (place / 'text').write_text(text)
    hparams = checkpoint.read_hparams('models/tiny')
    params = model.map_tree(lambda name, variable: 0 * variable, model.init_params(hparams))
    files = architecture.files('models/tiny', hparams, encoder.get_encoder('tiny'))
    checkpoint.save('zeros', 1, params, None, files)
    evaluate.evaluate(evaluate.EvaluateConfig(model_name='./zeros', dataset='text'))
    assert f'\nperplexity {hparams.n_vocab}\n' in capsys.readouterr().out


def test_a_loss_without_measure_has_an_infinite_perplexity():
    assert evaluate.perplexity(np.log(97)) == pytest.approx(97)
    assert evaluate.perplexity(2.46) == pytest.approx(11.705, abs=5e-4)
    assert evaluate.perplexity(1e4) == float('inf')


def test_surprisals_are_written_to_a_new_file(place, capsys):
    (place / 'other').write_text('Short.')
    numbers(capsys, dataset='[to][et]*', surprisal='out.jsonl')
    lines = [json.loads(line) for line in (place / 'out.jsonl').read_text('utf-8').splitlines()]
    assert ''.join(line['text'] for line in lines) == 'Short.' + TEXT
    loaded = generation.load('tiny')
    short, long = (loaded.encoder.encode(text) for text in ('Short.', TEXT))
    assert [line['id'] for line in lines] == short + long
    surprisals = [line['surprisal'] for line in lines]
    assert surprisals.pop(0) is None and surprisals.pop(len(short) - 1) is None
    expected = [cost for ids in (short, long) for cost in brute_force(loaded.lm, ids, 32, 16)]
    assert surprisals == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ValueError, match='out.jsonl is there already; give another --surprisal'):
        config(dataset='text', surprisal='out.jsonl')


def test_what_cannot_be_written_leaves_the_numbers(place, capsys):
    with pytest.raises(OSError):
        evaluate.evaluate(config(dataset='text', surprisal='/proc/out.jsonl'))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[-4:]] == [
        'loss', 'perplexity', 'bits_per_byte', 'tokens',
    ]  # fmt: skip
    late = config(dataset='text', surprisal='late.jsonl')
    (place / 'late.jsonl').write_text('mine')
    with pytest.raises(FileExistsError, match='late.jsonl is there already, and stays as it is'):
        evaluate.evaluate(late)
    assert (place / 'late.jsonl').read_text() == 'mine'
    (place / 'link').symlink_to('nowhere')
    with pytest.raises(ValueError, match='link is there already'):
        config(dataset='text', surprisal='link')


def test_a_text_that_is_not_there_is_told_before_a_model_is_loaded(place, capsys):
    with pytest.raises(ValueError, match='There is no text at none'):
        evaluate.evaluate(config(dataset='none'))
    assert capsys.readouterr().out == ''


def logprobs(lm, context, choices):
    """Of all tokens of each choice, each from a call of the oracle of its own."""
    params, sums = numpy_tree(lm), []
    for choice in choices:
        total = 0
        for i in range(len(choice)):
            tokens = np.array([[*context, *choice[:i]]])
            logits = oracle.model(lm.hparams, params, tokens)['logits'][0, -1]
            total += np.log(oracle.softmax(logits)[choice[i]])
        sums.append(total)
    return sums


def written(path, questions):
    path.write_text('\n'.join(json.dumps(question) for question in questions), encoding='utf-8')
    return str(path)


def test_choices_have_the_sum_of_their_tokens(place, capsys):
    random = np.random.default_rng(0)
    letters = np.array(list('abcdefgh ,.'))
    questions = [
        {
            'context': ''.join(random.choice(letters, size)),
            'choices': [''.join(random.choice(letters, n)) for n in (1, 4, 2)],
            **({'answer': int(random.integers(3))} if size != 3 else {}),
        }
        for size in (1, 3, 28, 29, 60, 5)
    ]
    evaluate.evaluate(config(choices=written(place / 'questions', questions)))
    *lines, number, accuracy = capsys.readouterr().out.splitlines()
    loaded, right = generation.load('tiny'), []
    for line, question in zip(map(json.loads, lines), questions, strict=True):
        context = loaded.encoder.encode(question['context'])[-28:]  # 28 + 4 fit into 32
        choices = [loaded.encoder.encode(choice) for choice in question['choices']]
        expected = logprobs(loaded.lm, context, choices)
        assert line['logprobs'] == pytest.approx(expected, rel=1e-5)
        assert line['best'] == np.argmax(expected) and set(line) == {'logprobs', 'best'}
        if 'answer' in question:
            right.append(line['best'] == question['answer'])
    assert (number, accuracy) == ('questions 6', f'accuracy {np.mean(right):.6g}')


def test_choices_agree_with_the_loss_of_the_whole_text(place, capsys):
    """The log-probability of a continuation is what it adds to the cost of its context."""
    whole, context = TEXT[:31], TEXT[:20]
    found = []
    for text in (whole, context):
        (place / 'text').write_text(text)
        of_text = numbers(capsys, dataset='text')
        found.append(float(of_text['loss']) * int(of_text['tokens']))
    path = written(place / 'questions', [{'context': context, 'choices': [whole[20:]]}])
    evaluate.evaluate(config(choices=path))
    line = json.loads(capsys.readouterr().out.splitlines()[0])
    assert line['logprobs'] == [pytest.approx(found[1] - found[0], rel=1e-4)]


def test_lambada_is_right_where_the_model_says_the_word_by_itself(place, capsys):
    loaded = generation.load('tiny')
    context = 'The quality of'
    said = next(generation.generate(loaded, context, length=3, temperature=0))
    lines = [context + said, context + ' xyz']
    (place / 'lambada').write_text('\n'.join(json.dumps({'text': line}) for line in lines))
    questions = [json.dumps({'context': context, 'choices': [c]}) for c in (said, ' xyz')]
    (place / 'choices').write_text('\n'.join(questions))
    evaluate.evaluate(config(choices='choices'))
    first, second, total = capsys.readouterr().out.splitlines()
    assert (json.loads(first)['greedy'], json.loads(second)['greedy']) == (True, False)
    assert total == 'questions 2'
    (place / 'lambada').write_text(f'{context} xyz\n{context} abc\n')
    found = numbers(capsys, choices='lambada', task='lambada')
    words = [loaded.encoder.encode(word) for word in (' xyz', ' abc')]
    expected = logprobs(loaded.lm, loaded.encoder.encode(context), words)
    assert float(found['perplexity']) == pytest.approx(np.exp(-np.mean(expected)), rel=1e-4)
    assert found['accuracy'] == '0' and found['questions'] == '2'


def test_cbt_goes_by_the_rest_of_the_sentence(place, capsys):
    (place / 'cbt').write_text('1 A cat .\n2 The XXXXX sat .\tcat\t\tdog|cat|old mat\n')
    evaluate.evaluate(config(choices='cbt', task='cbt'))
    line, number, accuracy = capsys.readouterr().out.splitlines()
    loaded = generation.load('tiny')
    encode = loaded.encoder.encode
    choices = [encode(text) for text in ('dog sat .', 'cat sat .', 'old mat sat .')]
    expected = logprobs(loaded.lm, encode('A cat . The '), choices)
    assert json.loads(line)['logprobs'] == pytest.approx(expected, rel=1e-5)
    assert accuracy == f'accuracy {int(np.argmax(expected) == 1)}'


class Loaded:
    """As generation.Loaded, of a window of 32."""

    def __init__(self, encoder):
        self.encoder = encoder
        self.lm = model.GPT2(model.HParams(1024, n_ctx=32), None)


@pytest.mark.parametrize(
    'context, choices, behind',
    [
        ('The king', [' and', ' or'], [' and', ' or']),
        ('The king ', ['and', 'or'], [' and', ' or']),  # a space begins a word
        ('The k', ['ing', 'een'], [' king', ' keen']),
        ('', ['The', 'A'], ['The', 'A']),
    ],
)
def test_a_choice_begins_where_its_first_token_does(small, context, choices, behind):
    question = evaluate.cloze.Question('here', context, choices, 0)
    ids, found = evaluate.tokens_of(Loaded(small), question)
    assert list(map(small.decode, found)) == behind
    for choice, its_ids in zip(choices, found, strict=True):
        whole = small.encode(context + choice)
        assert [*ids, *its_ids] == (whole if context else [small.encoder['<|endoftext|>'], *whole])


def test_a_choice_larger_than_the_window_is_refused(small):
    question = evaluate.cloze.Question('file, line 3', 'The king', ['b', ' b' * 40], 0)
    with pytest.raises(ValueError, match='^file, line 3 has a choice of 40 tokens; it must be les'):
        evaluate.tokens_of(Loaded(small), question)


@pytest.mark.parametrize(
    'arguments, complaint',
    [
        ([], 'give either --dataset or --choices'),
        (['--dataset', 'a', '--choices', 'b'], 'give either --dataset or --choices'),
        (['--choices', 'b', '--surprisal', 'c'], '--surprisal is for a --dataset, and means noth'),
        (['--choices', 'b', '--stride', '5'], '--stride is for a --dataset, and means nothing for'),
        (['--choices', 'b', '--template', '{a}'], '--template is for a --dataset, and means noth'),
        (['--dataset', 'a', '--task', 'cbt'], '--task cbt needs its file: --choices FILE'),
        (['--dataset', 'a', '--stride', '0'], '--stride is 0; it must be 1 or more'),
        (['--dataset', 'a', '--surprisal', 'no/x'], 'there is no folder to write no/x into'),
        (['--choices', 'b', '--task', 'arc'], "invalid choice: 'arc'"),
    ],
)
def test_flags_that_make_no_sense_are_refused(capsys, arguments, complaint):
    with pytest.raises(SystemExit):
        flags.parse(evaluate.EvaluateConfig, arguments)
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    'options, complaint',
    [
        ({'dataset': 'text', 'stride': 32}, '--stride is 32; for this model it must be 1 to 31'),
        ({'dataset': 'none'}, 'There is no text at none'),
        ({'dataset': 'one'}, 'no two tokens in a row'),
        ({'choices': 'foreign'}, "foreign, line 1: The vocabulary has no token 'Ä'"),
    ],
)
def test_mistakes_are_told_in_one_line(place, options, complaint):
    (place / 'one').write_text('a')
    written(place / 'foreign', [{'context': 'Ä', 'choices': ['a']}])
    with pytest.raises(ValueError, match=f'^[^\n]*{re.escape(complaint)}[^\n]*$'):
        evaluate.evaluate(config(**options))


def test_the_command(place):
    command = ['-m', 'src', 'evaluate', '--model_name', 'tiny', '--dataset', 'text']
    result = programs.result_of(command, place)
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(
        r'loss \d+\.\d+\nperplexity \d+\.?\d*\nbits_per_byte \d+\.\d+\ntokens 66\n', result.stdout
    )


@pytest.mark.parametrize('what', ['dataset', 'choices'])
def test_a_model_that_gives_no_numbers_gives_no_numbers(place, monkeypatch, what):
    written(place / 'choices', [{'context': 'All', 'choices': [' the', ' a']}])
    load = generation.load

    def diverged(*arguments, **options):
        loaded = load(*arguments, **options)
        weights = loaded.lm.params['h1']['mlp']['c_fc']['w_t']
        weights.assign(np.full(weights.shape, 3e38))
        return loaded

    monkeypatch.setattr(generation, 'load', diverged)
    path = 'text' if what == 'dataset' else 'choices'
    with pytest.raises(ValueError, match='^The logits are NaN, no numbers: the weights are dam'):
        evaluate.evaluate(config(**{what: path}))


@pytest.mark.filterwarnings("ignore:'src:RuntimeWarning")  # runpy finds what is imported
@pytest.mark.parametrize(
    'start', [['-m', 'src.evaluation.evaluate'], ['src/evaluation/evaluate.py']]
)
def test_its_file_is_the_command_too(place, start, monkeypatch, capsys):
    command = [*start, '--model_name', 'tiny/model.ckpt', '--dataset', 'text']
    result = started.captured(monkeypatch, capsys, command)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('loss ')
