"""What happens in a model while it reads: to be looked at, and to be computed with.

every_layer  features, attention and logits, layer by layer
embeddings   texts to vectors
"""
