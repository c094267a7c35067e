"""Models that a server on this machine has as Hugging Face's has them, with what can go wrong."""

import hashlib
import json
import resource
import signal

import file_server
import numpy as np
import pytest
from conftest import GOLDEN
from conversions import RECORDED, require_logits, same, weights

from src import encoder
from src.converting import hub, vocabularies
from src.model_files import download, fetching

REVISION = '0123456789' * 4
WEIGHTS = 'model.safetensors'


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(fetching, 'WAITS', (0,))
    monkeypatch.setattr(fetching, 'CHUNK', 1000)
    for name in ('http_proxy', 'HTTP_PROXY', 'HF_TOKEN'):
        monkeypatch.delenv(name, raising=False)
    with file_server.serving() as server:
        monkeypatch.setenv('HF_ENDPOINT', f'{server.origin}/')
        yield server


@pytest.fixture
def put(server):
    """Let the server have {name: content} as a repository."""

    def put(files, repository='owner/tiny', **told):
        siblings = []
        for name, content in files.items():
            server.files[f'{repository}/resolve/{REVISION}/{name}'] = content
            large = {'sha256': hashlib.sha256(content).hexdigest(), 'size': len(content)}
            lfs = {'lfs': large} if name.endswith(('.safetensors', '.bin')) else {}
            siblings.append({'rfilename': name, 'size': len(content), **lfs})
        listing = {'id': repository, 'sha': REVISION, 'siblings': siblings, **told}
        server.files[f'api/models/{repository}?blobs=true'] = json.dumps(listing).encode()

    return put


@pytest.fixture
def get(server, put, tmp_path):
    """Put the recorded folder there; then download it, by default. Gives the directory."""
    put(contents(RECORDED / 'huggingface'))

    def get(name='owner/tiny'):
        return hub.download(name, str(tmp_path / 'models'))

    return get


def contents(*folders):
    return {path.name: path.read_bytes() for folder in folders for path in folder.iterdir()}


def names_in(models_dir):
    return sorted(path.name for path in models_dir.iterdir())


def asked(server, name):
    """The ranges in which a file was asked for."""
    return [asked for path, asked in server.asked if path.endswith(f'/{name}')]


@pytest.fixture(scope='module')
def golden():
    return np.load(RECORDED / 'logits.npz')


def test_it_arrives_as_openais_files(server, put, get, tmp_path, golden, capsys):
    unwanted = (
        'pytorch_model.bin',
        'tf_model.h5',
        'README.md',
        'onnx/model.onnx',
        '../config.json',
    )
    put({**contents(RECORDED / 'huggingface'), **dict.fromkeys(unwanted, b'x')})
    directory = tmp_path / 'models' / 'tiny'
    assert get() == str(directory)
    require_logits(directory, golden['logits'], golden['tokens'])
    assert names_in(directory) == sorted(download.FILES)
    pointer = (directory / 'checkpoint').read_bytes()
    assert hashlib.sha256(pointer).hexdigest() == download.SHA256['checkpoint']
    assert names_in(tmp_path / 'models') == ['tiny']
    names = 'config.json', 'tokenizer.json', 'tokenizer_config.json', WEIGHTS
    assert [path for path, _ in server.asked] == [
        '/api/models/owner/tiny?blobs=true',
        *(f'/owner/tiny/resolve/{REVISION}/{name}' for name in names),
    ]
    said = capsys.readouterr().err
    assert f'owner/tiny of {server.origin} will be {directory}\n' in said
    assert f'Fetching {WEIGHTS}: 100%' in said and f'Wrote {directory}\n' in said


def test_weights_in_parts_and_the_other_vocabulary(put, get, tmp_path, golden):
    put(contents(RECORDED / 'sharded', RECORDED / 'vocabulary'))
    require_logits(get(), golden['bfloat16_logits'], golden['tokens'])
    files = contents(RECORDED / 'sharded', RECORDED / 'vocabulary')
    del files['model-00002-of-00002.safetensors']
    put(files, 'owner/other')
    with pytest.raises(ValueError, match=f'owner/other/{WEIGHTS}.index.json names model-00002-of'):
        get('owner/other')
    assert names_in(tmp_path / 'models') == ['tiny']


def test_where_there_are_pickles_alone_they_are_read_without_unpickling(put, get):
    expected = weights(get())
    files = contents(RECORDED / 'huggingface')
    del files[WEIGHTS]
    put({**files, 'pytorch_model.bin': (RECORDED / 'pytorch_model.bin').read_bytes()}, 'a/other')
    assert same(weights(get('a/other')), expected)


def test_a_cut_connection_goes_on_where_it_was(server, get, tmp_path, golden):
    server.faults[WEIGHTS] = [{'cut': 5000}, {'cut': 3000}]
    require_logits(get(), golden['logits'], golden['tokens'])
    assert asked(server, WEIGHTS) == [None, 'bytes=4999-', 'bytes=7998-']


def test_the_same_command_goes_on_later(server, get, tmp_path, golden):
    server.faults[WEIGHTS] = [{'cut': 5000}, {'cut': 0}, {'cut': 0}]
    with pytest.raises(OSError, match='Later, the same command goes on from here'):
        get()
    assert names_in(tmp_path / 'models') == ['.owner--tiny.part']  # nothing that looks like a model
    require_logits(get(), golden['logits'], golden['tokens'])
    assert asked(server, WEIGHTS)[-1] == 'bytes=4999-' and names_in(tmp_path / 'models') == ['tiny']
    whole = len((RECORDED / 'huggingface' / WEIGHTS).read_bytes())
    assert server.sent[WEIGHTS] == whole + 1  # the last byte twice


def test_a_file_of_an_earlier_revision_is_not_read(server, put, get, tmp_path):
    folder = tmp_path / 'models' / '.owner--tiny.part'
    folder.mkdir(parents=True)
    for name in ('added_tokens.json', 'vocab.json.part', 'vocab.json.part.etag'):
        (folder / name).write_text('not JSON')
    (folder / WEIGHTS).write_bytes(bytes((RECORDED / 'huggingface' / WEIGHTS).stat().st_size))
    get()
    assert len(asked(server, WEIGHTS)) == 1


def test_tokens_and_refusals(server, get, tmp_path, monkeypatch):
    server.token = 'hf_right'
    with pytest.raises(fetching.Refused, match='401 .* is not there: accept .* into HF_TOKEN'):
        get()
    monkeypatch.setenv('HF_TOKEN', 'hf_wrong')
    with pytest.raises(fetching.Refused, match='401 .* token in HF_TOKEN may not read') as error:
        get()
    assert str(error.value).isprintable() and 'hf_wrong' not in str(error.value)
    monkeypatch.setenv('HF_TOKEN', 'hf_right\n')
    server.faults = {'config.json': [{'status': 403}]}  # its terms are not accepted
    with pytest.raises(fetching.Refused, match='config.json is refused: 403 .* accept its terms'):
        get()
    assert names_in(tmp_path / 'models') == []
    get()
    monkeypatch.setenv('HF_TOKEN', 'hf_hidden with\nmore')
    with pytest.raises(ValueError, match='^HF_TOKEN has spaces in it') as error:
        get('owner/other')
    assert 'hidden' not in str(error.value)


def test_what_is_not_there(server, get, tmp_path):
    with pytest.raises(fetching.Absent) as error:
        get('owner/none')
    said = (
        f'There is no owner/none at {server.origin} (404); there are 124M, 355M, 774M, 1558M, and'
    )
    assert said in str(error.value) and names_in(tmp_path / 'models') == []


@pytest.mark.parametrize('name', ['x', '../x', 'a/b/c', '/x', 'x/', 'a/..', 'a/.b', '774', 'a b/c'])
def test_what_is_no_name(name):
    with pytest.raises(ValueError, match='is no model of Hugging Face; there are 124M, 355M, 774M'):
        hub.repository_of(name)


@pytest.mark.parametrize(
    'changed, complaint',
    [
        ({'config.json': b'{"model_type": "llama"}'}, 'tiny/config.json has the model_type llama'),
        ({'config.json': b'[' * 99_999}, 'owner/tiny/config.json is damaged'),
        ({'config.json': None}, 'owner/tiny has no config.json; it is no model of transformers'),
        ({WEIGHTS: None}, f'owner/tiny has no {WEIGHTS} and no pytorch_model.bin'),
        ({'tokenizer.json': None}, 'has no tokenizer.json, and no vocab.json with merges.txt'),
        ({'tokenizer.json': b'{}'}, 'owner/tiny/tokenizer.json is damaged'),
    ],
)
def test_what_is_no_gpt2_is_told_before_the_weights_come(
    server, put, get, tmp_path, changed, complaint
):
    files = {**contents(RECORDED / 'huggingface'), **changed}
    put({name: content for name, content in files.items() if content is not None})
    with pytest.raises(ValueError, match=complaint) as error:
        get()
    assert str(error.value).isprintable() and '.part' not in str(error.value)
    assert asked(server, WEIGHTS) == [] and names_in(tmp_path / 'models') == []


def test_weights_that_are_none(put, get, tmp_path):
    put({**contents(RECORDED / 'huggingface'), WEIGHTS: b'x' * 99})
    with pytest.raises(ValueError, match=f'owner/tiny/{WEIGHTS} is not a safetensors file'):
        get()
    assert names_in(tmp_path / 'models') == []


@pytest.mark.parametrize(
    'listing',
    [b'', b'[]', b'[' * 99_999, b'{"siblings": 3}', b'{"siblings": [{}]}', b'{"siblings": [3]}',
     b'{"siblings": [{"rfilename": [1]}]}', b'{"siblings": [{"rfilename": "x", "lfs": 3}]}'],
)  # fmt: skip
def test_a_list_of_files_that_is_none(server, get, tmp_path, listing):
    server.files['api/models/owner/tiny?blobs=true'] = listing
    with pytest.raises(fetching.ServerError, match='does not tell which files owner/tiny has'):
        get()
    assert names_in(tmp_path / 'models') == []


@pytest.mark.parametrize(
    'name, fault, complaint',
    [
        ('config.json', {'length': '-5'}, "tells a Content-Length of '-5'"),
        ('config.json', {'length': '9' * 18}, 'bytes; it should have 30000 at most'),
        (WEIGHTS, {'no length': True, 'body': b'x' * 9_000_000}, 'has more than 30000 bytes'),
        (WEIGHTS, {'body': b'x' * 19000}, 'sends a file whose sha256 is not|instead of'),
        ('tokenizer.json', {'body': b'{}'}, 'sends 2 bytes instead of 8544'),
        ('config.json', {'body': b'<!doctype html>'}, 'sends an error page instead of the file'),
    ],
)
def test_what_is_not_the_file_is_not_kept(
    server, get, tmp_path, monkeypatch, name, fault, complaint
):
    monkeypatch.setattr(encoder, 'LARGEST', 30_000)
    monkeypatch.setattr(download, 'LARGEST_DATA', 30_000)
    server.faults = {name: [fault]}
    with pytest.raises(fetching.ServerError, match=complaint):
        get()
    assert not list(tmp_path.glob(f'models/*/{name}*')) and not (tmp_path / 'models/tiny').exists()


def test_a_full_disk(get, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match=f'{WEIGHTS}.part cannot be written: File too large'):
            get()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not (tmp_path / 'models/tiny').exists()
    get()


def test_openais_models_have_their_own_names(put, get, tmp_path, monkeypatch, capsys):
    put(contents(RECORDED / 'huggingface'), 'openai-community/gpt2-medium')
    with pytest.raises(ValueError, match="gpt2-medium is not OpenAI's model: its sizes or its tok"):
        get('345M')
    assert names_in(tmp_path / 'models') == []
    monkeypatch.setattr(download, 'DATA_SIZES', {})
    assert get('345M') == get('345M') == str(tmp_path / 'models' / '345M')
    assert (
        f'{tmp_path}/models/345M is there already, and stays as it is\n' in capsys.readouterr().err
    )


def test_what_is_there_stays(server, get, tmp_path, monkeypatch):
    mine = tmp_path / 'models' / 'tiny' / 'mine'
    mine.parent.mkdir(parents=True)
    mine.write_text('mine')
    with pytest.raises(ValueError, match='tiny is there already, and stays as it is; rename it'):
        get()
    assert mine.read_text() == 'mine' and server.asked == []
    monkeypatch.setattr(download, 'DATA_SIZES', {})
    monkeypatch.setitem(hub.REPOSITORIES, '124M', 'owner/tiny')
    mine.parent.rename(tmp_path / 'models' / '124M')  # a part of what OpenAI's server has
    get('124M')
    assert names_in(tmp_path / 'models' / '124M') == sorted(download.FILES)
    assert (tmp_path / 'models' / '124M.1' / 'mine').read_text() == 'mine'


def test_openais_vocabulary_is_known_in_the_files_of_transformers(openais, tmp_path):
    for name, text in vocabularies.in_files_of_transformers(openais, 1024).items():
        (tmp_path / name).write_text(text, 'utf-8')
    for _ in range(2):
        enc, _ = vocabularies.of_folder(str(tmp_path))
        assert vocabularies.is_openais(enc) and isinstance(enc, encoder.Encoder)
        (tmp_path / 'tokenizer.json').unlink(missing_ok=True)
    assert not vocabularies.is_openais(encoder.get_encoder('openai_checkpoint', str(GOLDEN)))
