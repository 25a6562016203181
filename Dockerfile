# The CPU runtime: everything to run graphs, nothing to train.
#   docker build --tag sluice .
#   docker run --rm --network host --volume "$PWD/data:/data" sluice replay wafers.arrows --graph hgcal

FROM python:3.11-slim AS wheel
WORKDIR /src
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY kernels kernels
COPY pipeline pipeline
COPY exporters exporters
COPY models models
RUN pip install --no-cache-dir --constraint constraints.txt setuptools \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:3.11-slim AS runtime
LABEL org.opencontainers.image.title="sluice" \
      org.opencontainers.image.description="Streaming inference for the trigger level of particle detectors" \
      org.opencontainers.image.licenses="BSD-3-Clause"
# Kernels are compiled for the machine's CPU when they are first imported and kept here; another
# CPU than the build machine's compiles them once more.
ENV NUMBA_CACHE_DIR=/var/cache/sluice \
    SLUICE_STATE=/data/state \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir --compile --constraint /constraints.txt "$(echo /wheels/*.whl)[cpu]" \
    && useradd --system --uid 10001 --home-dir /data --no-create-home sluice \
    && install --directory --owner sluice --group sluice /data /var/cache/sluice
USER sluice
WORKDIR /data
RUN ["sluice", "check", "hgcal"]
VOLUME /data
# For `run`, and for `replay --http 127.0.0.1:9464`; other commands end before the first check.
HEALTHCHECK --interval=15s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9464/livez', timeout=2)"]
# Exec form: SIGTERM reaches sluice, which drains and closes the run.
STOPSIGNAL SIGTERM
ENTRYPOINT ["sluice"]
CMD ["run", "hgcal"]
