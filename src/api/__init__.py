"""The Python interface: what `import gpt2` offers; docs/python.md explains it.

commands        download, encode_dataset, finetune and load
language_model  a model that is ready: texts, scores, the likeliest tokens
notebook        what a run shows in a notebook
"""
