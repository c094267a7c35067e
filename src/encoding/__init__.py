"""Commands that come before a model is trained.

train_encoder     texts to a vocabulary
encode            texts to a file of tokens
"""
