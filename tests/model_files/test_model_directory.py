import pytest
from conftest import ROOT

from src.model_files import model_directory


@pytest.fixture
def put(tmp_path):
    """Make a model directory with some files, whose contents do not matter here."""

    def put(name, files=model_directory.WHOLE):
        (tmp_path / 'models' / name).mkdir(parents=True)
        for file in files:
            (tmp_path / 'models' / name / file).touch()

    return put


def find(tmp_path, name=model_directory.DEFAULT, needs=model_directory.WHOLE):
    return model_directory.find(name, str(tmp_path / 'models'), needs)


@pytest.mark.parametrize(
    'there, asked, found',
    [
        ('124M', '124M', '124M'),
        ('117M', '124M', '117M'),
        ('124M', '117M', '124M'),
        ('355M', '345M', '355M'),
        ('345M', '355M', '345M'),
    ],
)
def test_a_name_or_its_alias_is_found(tmp_path, put, capsys, there, asked, found):
    put(there)
    put('other')
    assert find(tmp_path, asked) == str(tmp_path / 'models' / found)
    assert (found in capsys.readouterr().err) == (asked != found)


def test_the_name_itself_comes_before_its_alias(tmp_path, put, capsys):
    put('117M')
    put('124M')
    assert find(tmp_path, '117M').endswith('117M')
    assert capsys.readouterr().err == ''


def test_the_only_model_stands_in_for_a_name_that_nobody_typed(tmp_path, put, capsys):
    put('345M')
    assert find(tmp_path).endswith('345M')
    assert 'models/124M is not there; using' in capsys.readouterr().err
    with pytest.raises(
        ValueError,
        match='There is no .*download_model.py 124M, or .* 345M, shakespeare$',
    ):
        find(tmp_path, '124M')


def test_of_two_models_one_must_be_chosen(tmp_path, put):
    put('345M')
    put('774M')
    with pytest.raises(ValueError, match='Choose one with --model_name: 345M, 774M, shakespeare$'):
        find(tmp_path)


def test_any_size_has_the_vocabulary_of_all(tmp_path, put):
    put('774M', model_directory.VOCABULARY)
    put('mine', model_directory.VOCABULARY)
    for name in ('124M', '345M', model_directory.DEFAULT):
        assert find(tmp_path, name, model_directory.VOCABULARY).endswith('774M')
    with pytest.raises(ValueError, match='Choose one with --model_name: 774M, mine, shakespeare$'):
        find(tmp_path, 'yours', model_directory.VOCABULARY)


def test_the_path_of_a_run_is_a_name(tmp_path, put, monkeypatch, capsys):
    put('run1')
    monkeypatch.chdir(tmp_path)
    assert model_directory.find('models/run1', 'elsewhere') == 'models/run1'
    assert model_directory.find('run1', '$HOME/../' + str(tmp_path / 'models')).endswith('run1')
    assert capsys.readouterr().err == ''


def test_a_run_is_found_by_its_name_and_ambiguity_is_said(tmp_path, put, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    put('../checkpoint/poems')
    assert find(tmp_path, 'poems') == 'checkpoint/poems'
    assert 'models/poems is not there; using checkpoint/poems\n' in capsys.readouterr().err
    put('poems')
    assert find(tmp_path, 'poems') == str(tmp_path / 'models' / 'poems')
    assert 'poems is meant, and not checkpoint/poems\n' in capsys.readouterr().err
    with pytest.raises(ValueError, match='There is no .*models/jokes. Choose .*: poems, shakespea'):
        find(tmp_path, 'jokes')


def test_the_model_of_this_repository_stands_in_for_no_other(tmp_path, put, monkeypatch, capsys):
    put('shakespeare')
    with pytest.raises(ValueError, match='Download a model: python3 download_model.py 124M, or'):
        find(tmp_path)
    put('345M')  # as if it had been downloaded, by somebody who goes on without naming it
    assert find(tmp_path).endswith('345M')
    monkeypatch.chdir(tmp_path)
    found = model_directory.find('shakespeare', 'elsewhere')
    assert found == str(ROOT / 'models' / 'shakespeare')
    assert 'elsewhere/shakespeare is not there; using' in capsys.readouterr().err


def test_nothing_there_says_what_to_type(tmp_path):
    for name, download in (('345M', '345M'), ('mine', '124M'), (model_directory.DEFAULT, '124M')):
        with pytest.raises(
            ValueError,
            match=f'python3 download_model.py {download}, or .* shakespeare$',
        ):
            find(tmp_path, name)


def test_a_vocabulary_alone_may_become_a_model(tmp_path, put):
    put('letters', model_directory.VOCABULARY)
    with pytest.raises(ValueError, match='letters has no hparams.json. Give .*scratch --n_layer 4'):
        find(tmp_path, 'letters', model_directory.ARCHITECTURE)
    put('copied', (*model_directory.VOCABULARY, 'checkpoint'))  # whose sizes were forgotten
    with pytest.raises(ValueError, match='copied has no hparams.json. Download a model'):
        find(tmp_path, 'copied', model_directory.ARCHITECTURE)


def test_missing_files_are_named(tmp_path, put):
    put('124M', ('hparams.json', 'checkpoint'))
    with pytest.raises(ValueError, match='124M has no encoder.json and no vocab.bpe. Download'):
        find(tmp_path, '124M')


@pytest.mark.parametrize(
    'content',
    [
        b'model_checkpoint_path: "model-5"\n',
        b'model_checkpoint_path: "C:\\\\Users\\\\me\\\\checkpoint\\\\run1\\\\model-5"\r\n',
        b'model_checkpoint_path: "/home/me/run1/model-5"  \n',
        b"model_checkpoint_path: 'model-5'",
        'model_checkpoint_path: “model-5”'.encode(),
        b'model_checkpoint_path:model-5',
        b'\xef\xbb\xbfmodel_checkpoint_path: "model-5"',
        'model_checkpoint_path: "model-5"\r\n'.encode('utf-16'),
    ],
)
def test_what_other_systems_make_of_the_file_checkpoint_is_understood(tmp_path, content):
    (tmp_path / 'checkpoint').write_bytes(content)
    (tmp_path / 'model-5.index').touch()
    assert model_directory.latest(tmp_path) == str(tmp_path / 'model-5')


def test_openais_checkpoint_is_found_without_the_file_checkpoint(tmp_path, put):
    files = (*model_directory.ARCHITECTURE, 'model.ckpt.index')
    put('124M', files)
    assert find(tmp_path, '124M') == str(tmp_path / 'models' / '124M')
    assert model_directory.latest(tmp_path / 'models' / '124M').endswith('124M/model.ckpt')
    put('bare')
    (tmp_path / 'models' / 'bare' / 'checkpoint').unlink()
    with pytest.raises(ValueError, match='bare has no checkpoint'):
        find(tmp_path, 'bare')


def test_a_directory_without_a_checkpoint_has_none(tmp_path):
    assert model_directory.latest(tmp_path) is None
    (tmp_path / 'checkpoint').write_text('')
    with pytest.raises(ValueError, match='names no checkpoint'):
        model_directory.latest(tmp_path)


def test_a_checkpoint_behind_a_run_is_that_one(models_dir):
    for name in ('model-5', 'model-10', 'state-10'):
        (models_dir / 'tiny' / f'{name}.index').write_bytes(b'')
    tiny = str(models_dir / 'tiny')
    of = model_directory.checkpoint_of
    assert of('tiny', str(models_dir)) == (tiny, f'{tiny}/model.ckpt')
    assert of('tiny/model-5', str(models_dir)) == (tiny, f'{tiny}/model-5')
    assert of(f'{tiny}/model-10.index') == (tiny, f'{tiny}/model-10')
    with pytest.raises(ValueError, match='no model-7; it has model-10, model-5, model.ckpt$'):
        of('tiny/model-7', str(models_dir))
    for path in (models_dir / 'tiny').glob('model*.index'):
        path.unlink()
    with pytest.raises(ValueError, match='tiny has no model-7; it has no checkpoint$'):
        of('tiny/model-7', str(models_dir))
    with pytest.raises(ValueError, match='There is no .*none/model-7'):
        of('none/model-7', str(models_dir))


@pytest.mark.parametrize(
    'text', ['\n' * 10**6, 'model_checkpoint_path: x' + ' ' * 10**6 + 'y', '\t:' * 10**5], ids=len
)
def test_a_checkpoint_file_of_space_is_read_in_a_moment(tmp_path, text):
    """A pattern over all of it would take hours."""
    (tmp_path / 'checkpoint').write_text(text)
    if 'x' in text:
        assert model_directory.named(tmp_path) == [text[23:]]
    else:
        with pytest.raises(ValueError, match='checkpoint names no checkpoint'):
            model_directory.named(tmp_path)
