# Without a command the image runs everything embedded: SQLite, Redis, web server and worker.
# The worker makes sandboxes, which a container forbids by default; compose.yaml says what it needs.
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 coder \
    && install --directory --owner=coder --group=coder /data

WORKDIR /srv/asynccoder

# pip compiles the byte code; the layer changes only with the lock.
COPY requirements.txt .
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.txt

COPY . .
RUN python -m compileall -q accounts aimodels asynccoder billing repositories tasks manage.py

USER coder
ENV HOST=0.0.0.0 \
    PORT=8000 \
    PYTHONUNBUFFERED=1 \
    VAR_DIR=/data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM

HEALTHCHECK --interval=15s --timeout=10s --start-period=90s --retries=4 \
    CMD ["python", "-m", "asynccoder.launcher", "--probe"]

CMD ["python", "-m", "asynccoder.launcher", "--follow"]
