# A model for others, on a CPU. In the folder of this file, and of a run:
#
#   docker build -t gpt2 .
#   docker run --rm -p 127.0.0.1:8080:8080 -v "$PWD/checkpoint/run1:/model:ro" gpt2
#
# To have the model in the image: COPY --chown=gpt2 checkpoint/run1 /model, before USER.
FROM python:3.12-slim
COPY . /gpt2
# TensorFlow without what only GPUs need, half as large; then README's command, whose `tensorflow`
# it stands for.
RUN cd /gpt2 \
    && sed -i 's/^tensorflow>=/tensorflow-cpu>=/' requirements.txt \
    && pip install --no-cache-dir ".[serve,litert]" \
    && rm -r /gpt2
RUN useradd --create-home gpt2
USER gpt2
WORKDIR /home/gpt2
ENV PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/readyz', timeout=4)"]
# Keys, where more than a trusted network can reach it: -e GPT2_API_KEY=…
CMD ["gpt2", "serve", "--model_name", "/model", "--host", "0.0.0.0"]
