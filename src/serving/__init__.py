"""A server: texts for many at once, by OpenAI's API, gpt-2-cloud-run's, and a page.

refused      errors, as OpenAI's API has them
fields       fields of a JSON object, checked
prompts      prompts to ids
completions  OpenAI's request
cloud_run    gpt-2-cloud-run's request
drawing      logits to the next token of one text
pieces       a growing text in what can be shown of it
texts        a text, from its request to its end
answers      OpenAI's answers
slots        texts side by side in TensorFlow
scheduler    the thread that works with the model
metrics      numbers for Prometheus
exchange     a request in the event loop: its texts, and whoever waits for them
guard        what holds for all answers: headers, keys, bodies
app          the addresses
serve        the command
"""
