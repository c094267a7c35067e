"""gpt-2-simple's names for what the rooms above do; docs/gpt_2_simple.md says what is the same.

session       what its programs hold in `sess`: a model, and how it gets there
downloading   OpenAI's files
datasets      a table as text, text as tokens
finetuning    a run
generating    texts: printed, in a list, in a file
drive         copies in a folder that outlives a notebook's machine
command_line  `gpt_2_simple finetune`, `gpt_2_simple generate`

gpt_2_simple.py, beside this package, is the list of the names.
"""
