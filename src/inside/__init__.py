"""What happens in a model while it reads: to be looked at, and to be computed with.

every_layer     features, attention and logits, layer by layer
embeddings      texts to vectors
contents        what the page holds, packed; page/data.js unpacks it
attention_view  the command: a page for a browser, put together of the files in page/
"""
