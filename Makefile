# make demo   install, train a small model on Shakespeare for a minute or two, and let it speak
# make test   install what the tests need, and run them
# make lint   ruff, as the tests' settings in pyproject.toml have it

PYTHON ?= python3
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test lint

demo: .venv/installed
	.venv/bin/python encode.py --models_dir demo/models --model_name shakespeare \
		demo/shakespeare.txt demo/shakespeare.npz
	.venv/bin/python train.py --models_dir demo/models --model_name shakespeare \
		--dataset demo/shakespeare.npz --run_name demo --restore_from scratch --seed 1 \
		--batch_size 8 --learning_rate 0.002 --schedule cosine --warmup_steps 100 \
		--clip_gradients 1 --steps 1200 \
		--sample_every 300 --sample_length 100 --save_every 0
	.venv/bin/python src/generate_unconditional_samples.py --model_name checkpoint/demo \
		--nsamples 2 --length 120 --temperature 0.8 --top_k 40 --seed 1

test: .venv/installed-test
	.venv/bin/python -m pytest

lint: .venv/installed-test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.txt
	touch $@

.venv/installed-test: .venv/installed tests/requirements.txt
	.venv/bin/python -m pip install --quiet --requirement tests/requirements.txt
	touch $@
