"""How good a model is.

likelihood        what each token of a text costs a model
cloze             files of questions
evaluate          the command: the loss of a text, or which text is expected
suffix_automaton  the longest strings that two texts share
check_overlap     the command: how much of a text was learnt by heart
"""
