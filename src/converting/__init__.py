"""Models into the files of other programs, and out of them.

portable            a model on its way: what it is, and its weights one by one
safetensors_files   weights as Hugging Face has them
torch_files         weights as PyTorch saves them, without PyTorch and without running anything
vocabularies        vocabularies of others to an Encoder and back
model_card          what a README.md says of a model
hugging_face        the folders of transformers
nano_gpt            nanoGPT's checkpoints
gguf_files          the files of llama.cpp and ollama
openai              the directories that all other rooms know
convert             the command
hub                 Hugging Face's server to a model directory
download_model      the command that fetches models, from there or from OpenAI
"""
