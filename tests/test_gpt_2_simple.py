"""gpt_2_simple.py, by the programs that people have: those of gpt-2-simple's README, of its Colab
notebook, and gpt-2-cloud-run's app.py. Fewer steps and tokens are all that is changed in them.
"""

import asyncio
import collections
import contextlib
import functools
import inspect
import os
import pathlib
import re
import shutil
import sys
import types

import numpy as np
import pytest
import requests
from conftest import ROOT, TEXT

from src import model
from src.gradients import small_model
from src.model_files import checkpoint, model_directory
from src.simple import drive, session

# What inspect.signature says of gpt-2-simple 0.8.1.
SIGNATURES = """
cmd()
cmd_finetune(dataset, run_name, checkpoint_dir, model_name, model_dir, steps, restore_from,
    sample_every, save_every, print_every, optimizer, overwrite, multi_gpu)
cmd_generate(nfiles, nsamples, folder, length, temperature, batch_size, prefix, truncate,
    include_prefix, sample_delim, run_name, checkpoint_dir, top_k, top_p, multi_gpu)
copy_checkpoint_from_gdrive(run_name='run1', copy_folder=False)
copy_checkpoint_to_gdrive(run_name='run1', copy_folder=False)
copy_file_from_gdrive(file_path)
copy_file_to_gdrive(file_path)
download_file_with_progress(url_base, sub_dir, model_name, file_name)
download_gpt2(model_dir='models', model_name='124M')
encode_csv(csv_path, out_path='csv_encoded.txt', header=True, start_token='<|startoftext|>',
    end_token='<|endoftext|>')
encode_dataset(file_path, model_dir='models', out_path='text_encoded.npz', model_name='124M',
    combine=50000)
finetune(sess, dataset, steps=-1, model_name='124M', model_dir='models', combine=50000,
    batch_size=1, learning_rate=0.0001, accumulate_gradients=5, restore_from='latest',
    run_name='run1', checkpoint_dir='checkpoint', sample_every=100, sample_length=1023,
    sample_num=1, multi_gpu=False, save_every=1000, print_every=1, max_checkpoints=1,
    use_memory_saving_gradients=False, only_train_transformer_layers=False, optimizer='adam',
    overwrite=False, reuse=False)
generate(sess, run_name='run1', checkpoint_dir='checkpoint', model_name=None, model_dir='models',
    sample_dir='samples', return_as_list=False, truncate=None, destination_path=None,
    sample_delim='====================\\n', prefix=None, seed=None, nsamples=1, batch_size=1,
    length=1023, temperature=0.7, top_k=0, top_p=0.0, include_prefix=True)
generate_to_file(sess, run_name='run1', checkpoint_dir='checkpoint', model_name=None,
    model_dir='models', truncate=None, destination_path='gpt_2_gen_texts.txt',
    sample_delim='====================\\n', prefix=None, seed=None, nsamples=1, batch_size=1,
    length=1023, temperature=0.7, top_k=0, top_p=0.0, include_prefix=True)
get_available_gpus()
get_tarfile_name(checkpoint_folder)
is_gpt2_downloaded(model_dir='models', model_name='124M')
is_mounted()
load_gpt2(sess, checkpoint='latest', run_name='run1', checkpoint_dir='checkpoint',
    model_name=None, model_dir='models', multi_gpu=False, reuse=False)
mount_gdrive()
reset_session(sess, threads=-1, server=None)
start_tf_sess(threads=-1, server=None)
"""
SIGNATURES = dict(re.findall(r'^(\w+)\((.*?)\)$', SIGNATURES, re.MULTILINE | re.DOTALL))


def module():
    """gpt_2_simple, of the package in src, as which all tests know it; it counts its calls."""
    text = (ROOT / 'gpt_2_simple.py').read_text('utf-8').replace('from gpt2.', 'from src.')
    made = types.ModuleType('gpt_2_simple')
    exec(text, made.__dict__)
    made.calls = collections.Counter()
    for name in made.__all__:
        setattr(made, name, counted(made.calls, getattr(made, name)))
    return made


def counted(calls, function):
    @functools.wraps(function)
    def call(*arguments, **options):
        calls[function.__name__] += 1
        return function(*arguments, **options)

    return call


def run(program, gpt2):
    """Run a program in the working directory; gives its names."""
    names = {'__name__': 'program'}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setitem(sys.modules, 'gpt_2_simple', gpt2)
        gpt2.calls.clear()
        exec(program, names)
    return names


README = """
import gpt_2_simple as gpt2
import os
import requests

model_name = "124M"
if not os.path.isdir(os.path.join("models", model_name)):
	print(f"Downloading {model_name} model...")
	gpt2.download_gpt2(model_name=model_name)   # model is saved into current directory under /models/124M/


file_name = "shakespeare.txt"
if not os.path.isfile(file_name):
	url = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
	data = requests.get(url)

	with open(file_name, 'w') as f:
		f.write(data.text)


sess = gpt2.start_tf_sess()
gpt2.finetune(sess,
              file_name,
              model_name=model_name,
              steps=3)   # steps is max number of training steps

gpt2.generate(sess)
"""  # noqa: E501, W191, E101
LATER = """
import gpt_2_simple as gpt2

sess = gpt2.start_tf_sess()
gpt2.load_gpt2(sess)

gpt2.generate(sess)

single_text = gpt2.generate(sess, return_as_list=True)[0]
print(single_text)
"""


@pytest.fixture(scope='module')
def tuned(tmp_path_factory, shallow):
    """A folder in which the program of the README has run, with a file of what it printed."""
    place = tmp_path_factory.mktemp('tuned')
    shutil.copytree(shallow, place / 'models' / '124M')
    gpt2 = module()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(place)
        monkeypatch.setattr(small_model, 'WIDEST', 0)
        monkeypatch.setattr(requests, 'get', lambda url: types.SimpleNamespace(text=TEXT))
        with open('printed', 'w') as printed, contextlib.redirect_stdout(printed):
            run(README, gpt2)
    assert gpt2.calls == {'start_tf_sess': 1, 'finetune': 1, 'generate': 1}
    return place


def test_all_names_have_their_parameters_in_order_with_their_defaults():
    gpt2 = module()
    assert set(gpt2.__all__) == set(SIGNATURES) and len(SIGNATURES) == 22
    for name, text in SIGNATURES.items():
        theirs = inspect.signature(eval(f'lambda {" ".join(text.split())}: None')).parameters
        ours = inspect.signature(getattr(gpt2, name)).parameters
        more = list(ours.values())[len(theirs) :]
        assert [(each, theirs[each].default) for each in theirs] == [
            (each, ours[each].default) for each in list(ours)[: len(theirs)]
        ]
        assert all(each.default is None or each.kind == each.VAR_KEYWORD for each in more), name


def test_the_program_of_the_readme(tuned):
    assert re.fullmatch(
        r'Loading checkpoint models/124M/model.ckpt\nLoading dataset...\ndataset has \d+ tokens\n'
        r'Training...\n(\[[123] \| \d+\.\d\d\] loss=\d\.\d\d avg=\d\.\d\d\n){3}'
        r'Saving checkpoint/run1/model-3\n(?s:.+)\n',
        (tuned / 'printed').read_text(),
    )
    folder = tuned / 'checkpoint' / 'run1'
    assert (folder / 'counter').read_text() == '3\n'
    hparams = checkpoint.read_hparams(folder)
    saved = checkpoint.load(model_directory.latest(str(folder)), hparams)
    begun = checkpoint.load(str(tuned / 'models/124M/model.ckpt'), hparams)
    changes = [np.abs(saved[name] - begun[name]).max() for name in ('wte', 'wpe')]
    assert all(1e-4 < change < 3.1e-4 for change in changes)  # 3 steps of Adam, of 1e-4 at most


def test_a_run_is_loaded_and_speaks(tuned, monkeypatch, capsys):
    monkeypatch.chdir(tuned)
    gpt2 = module()
    text = run(LATER, gpt2)['single_text']
    assert gpt2.calls == {'start_tf_sess': 1, 'load_gpt2': 1, 'generate': 2}
    out = capsys.readouterr().out
    assert out.startswith('Loading checkpoint checkpoint/run1/model-3\n')
    assert out.endswith(f'{text}\n') and out.count(text) == 1


COLAB = """
import gpt_2_simple as gpt2
from datetime import datetime
from google.colab import files

gpt2.download_gpt2(model_name="124M")

gpt2.mount_gdrive()

file_name = "shakespeare.txt"

gpt2.copy_file_from_gdrive(file_name)

sess = gpt2.start_tf_sess()

gpt2.finetune(sess,
              dataset=file_name,
              model_name='124M',
              steps=4,
              restore_from='fresh',
              run_name='run1',
              print_every=2,
              sample_every=200,
              save_every=2,
              use_memory_saving_gradients=True
              )

gpt2.copy_checkpoint_to_gdrive(run_name='run1')

gpt2.copy_checkpoint_from_gdrive(run_name='run1')

sess = gpt2.start_tf_sess()
gpt2.load_gpt2(sess, run_name='run1')

gpt2.generate(sess, run_name='run1')

gpt2.generate(sess,
              length=250,
              temperature=0.7,
              prefix="LORD",
              nsamples=5,
              batch_size=5
              )

gen_file = 'gpt2_gentext_{:%Y%m%d_%H%M%S}.txt'.format(datetime(2019, 11, 10))

gpt2.generate_to_file(sess,
                      destination_path=gen_file,
                      length=500,
                      temperature=0.7,
                      nsamples=10,
                      batch_size=5
                      )

# may have to run twice to get file to download
files.download(gen_file)
"""
COLAB_LATER = """
sess = gpt2.start_tf_sess()

gpt2.load_gpt2(sess, model_name=model_name)

gpt2.generate(sess,
              model_name=model_name,
              prefix="The secret of life is",
              length=100,
              temperature=0.7,
              top_p=0.9,
              nsamples=5,
              batch_size=5
              )
"""


def test_the_cells_of_the_colab_notebook(tuned, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tuned / 'models', 'models')
    shutil.copytree(tuned / 'checkpoint', 'checkpoint')  # restore_from='fresh' leaves that
    monkeypatch.setattr(drive, 'COLAB', str(tmp_path / 'drive'))
    monkeypatch.setattr(drive, '_mounted', None)
    downloaded, folder = [], tmp_path / 'drive' / 'My Drive'

    def mount(path):
        os.makedirs(os.path.join(path, 'My Drive'))
        (folder / 'shakespeare.txt').write_text(TEXT)

    colab = types.ModuleType('google.colab')
    colab.drive = types.SimpleNamespace(mount=mount)
    colab.files = types.SimpleNamespace(download=downloaded.append)
    monkeypatch.setitem(sys.modules, 'google.colab', colab)
    gpt2 = module()
    gpt2.download_gpt2 = lambda model_name: None
    names = run(COLAB, gpt2)
    assert gpt2.calls == {
        'mount_gdrive': 1, 'copy_file_from_gdrive': 1, 'start_tf_sess': 2, 'finetune': 1,
        'copy_checkpoint_to_gdrive': 1, 'copy_checkpoint_from_gdrive': 1, 'load_gpt2': 1,
        'generate': 2, 'generate_to_file': 1,
    }  # fmt: skip
    out, err = capsys.readouterr()
    assert re.findall(r'^\[(\d+) ', out, re.MULTILINE) == ['2', '4']
    assert 'checkpoint/run1 is kept as checkpoint/run1.1\n' in err
    assert (folder / 'checkpoint_run1.tar').exists()
    assert sorted(os.listdir('checkpoint')) == ['run1', 'run1.1', 'run1.2']
    assert model_directory.named('checkpoint/run1')[1:] == ['model-4']  # max_checkpoints is 1
    texts = out.partition('Loading checkpoint checkpoint/run1/model-4\n')[2]
    assert texts.count('=' * 20 + '\n') == 5 and texts.count('\nLORD') >= 5
    (path,) = downloaded
    assert pathlib.Path(path).read_text().count('=' * 20 + '\n') == 10

    names.update(model_name='124M', gpt2=gpt2)
    exec(COLAB_LATER, names)
    out = capsys.readouterr().out
    assert out.startswith('Loading pretrained model models/124M/model.ckpt\n')
    assert len(re.findall('The secret of life is', out)) == 5


# Retyped without its remarks. What it takes of Starlette and uvicorn is of 2019.
APP = """
from starlette.applications import Starlette
from starlette.responses import UJSONResponse
import gpt_2_simple as gpt2
import tensorflow as tf
import uvicorn
import os
import gc

app = Starlette(debug=False)

sess = gpt2.start_tf_sess(threads=1)
gpt2.load_gpt2(sess)

response_header = {
    'Access-Control-Allow-Origin': '*'
}

generate_count = 0


@app.route('/', methods=['GET', 'POST', 'HEAD'])
async def homepage(request):
    global generate_count
    global sess

    if request.method == 'GET':
        params = request.query_params
    elif request.method == 'POST':
        params = await request.json()
    elif request.method == 'HEAD':
        return UJSONResponse({'text': ''},
                             headers=response_header)

    text = gpt2.generate(sess,
                         length=int(params.get('length', 1023)),
                         temperature=float(params.get('temperature', 0.7)),
                         top_k=int(params.get('top_k', 0)),
                         top_p=float(params.get('top_p', 0)),
                         prefix=params.get('prefix', '')[:500],
                         truncate=params.get('truncate', None),
                         include_prefix=str(params.get(
                             'include_prefix', True)).lower() == 'true',
                         return_as_list=True
                         )[0]

    generate_count += 1
    if generate_count == 8:
        tf.reset_default_graph()
        sess.close()
        sess = gpt2.start_tf_sess(threads=1)
        gpt2.load_gpt2(sess)
        generate_count = 0

    gc.collect()
    return UJSONResponse({'text': text},
                         headers=response_header)

if __name__ == '__main__':
    uvicorn.run(app, host='0.0.0.0', port=int(os.environ.get('PORT', 8080)))
"""


def test_the_app_of_gpt_2_cloud_run(tuned, monkeypatch):
    monkeypatch.chdir(tuned)
    routes, made, of_a_session = {}, [], model.GPT2
    monkeypatch.setattr(session, '_free', [])
    monkeypatch.setattr(model, 'GPT2', lambda *_: made.append(of_a_session(*_)) or made[-1])

    def route(path, methods):
        return lambda function: routes.setdefault(path, function)

    app = types.SimpleNamespace(route=route)
    modules = {
        'starlette.applications': {'Starlette': lambda debug: app},
        'starlette.responses': {'UJSONResponse': lambda content, headers: content},
        'uvicorn': {},
    }
    for name, contents in modules.items():
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        vars(sys.modules[name]).update(contents)
    gpt2 = module()
    names = run(APP, gpt2)

    async def json():
        return {'length': 5, 'prefix': 'All', 'include_prefix': False, 'top_k': 1}

    get = types.SimpleNamespace(
        method='GET', query_params={'length': '5', 'prefix': 'All', 'top_k': '1'}
    )
    requests = [get, types.SimpleNamespace(method='POST', json=json)] * 9
    texts = [asyncio.run(routes['/'](request))['text'] for request in requests]
    assert texts[::2] == ['All' + text for text in texts[1::2]] and len(set(texts)) == 2
    assert gpt2.calls == {'start_tf_sess': 3, 'load_gpt2': 3, 'generate': 18}
    assert len(made) == 1  # which was filled anew, twice
    assert asyncio.run(routes['/'](types.SimpleNamespace(method='HEAD'))) == {'text': ''}
    names['sess'].close()
