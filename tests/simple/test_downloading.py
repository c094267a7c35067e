"""gpt-2-simple's names of downloading; the server itself is test_download.py's."""

import pytest
from conftest import GOLDEN

from src.model_files import download, fetching
from src.simple import downloading


def test_a_model_is_there_when_all_its_files_are(models_dir):
    there = {'model_dir': models_dir, 'model_name': 'tiny'}
    assert downloading.is_gpt2_downloaded(**there)
    assert not downloading.is_gpt2_downloaded(models_dir, '124M')
    for path in sorted((models_dir / 'tiny').iterdir()):
        path.rename(f'{path}.part')
        assert not downloading.is_gpt2_downloaded(**there)
        path.with_name(f'{path.name}.part').rename(path)


def test_what_is_fetched_and_from_where(tmp_path, monkeypatch):
    fetched = []
    monkeypatch.setattr(fetching, 'fetch', lambda url, path, *_: fetched.append((url, str(path))))
    base = download.BASE_URL.rstrip('/')
    models_dir = str(tmp_path / 'models')
    downloading.download_gpt2(models_dir, '355M')
    names = [path.name for path in GOLDEN.joinpath('openai_checkpoint').iterdir()]
    assert sorted(fetched) == sorted(
        (f'{base}/models/355M/{name}', f'{models_dir}/355M/{name}') for name in names
    )
    fetched.clear()
    downloading.download_file_with_progress(base, f'{models_dir}/124M', '124M', 'hparams.json')
    assert fetched == [(f'{base}/models/124M/hparams.json', f'{models_dir}/124M/hparams.json')]
    with pytest.raises(ValueError, match="'../124M' is not the name of a model"):
        downloading.download_gpt2(model_name='../124M')
