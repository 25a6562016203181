# Everything to run graphs, nothing to train; for the CPU, and as the target `gpu` for NVIDIA's GPUs.
#   docker build --tag sluice .
#   docker run --rm --network host --volume "$PWD/data:/data" sluice replay wafers.arrows --graph hgcal
#   docker build --target gpu --tag sluice:gpu .
#   docker run --rm --gpus all --shm-size 1g --network host --volume "$PWD/data:/data" sluice:gpu doctor --gpu

FROM python:3.11-slim AS wheel
WORKDIR /src
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY package package
COPY kernels kernels
COPY pipeline pipeline
COPY exporters exporters
COPY models models
COPY benchmarks benchmarks
RUN pip install --no-cache-dir --constraint constraints.txt setuptools \
    && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM python:3.11-slim AS system
LABEL org.opencontainers.image.title="sluice" \
      org.opencontainers.image.description="Streaming inference for the trigger level of particle detectors" \
      org.opencontainers.image.licenses="BSD-3-Clause"
# Kernels are compiled for the machine's CPU when they are first imported and kept here; another
# CPU than the build machine's compiles them once more.
ENV NUMBA_CACHE_DIR=/var/cache/sluice \
    SLUICE_STATE=/data/state \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 --home-dir /data --no-create-home sluice \
    && install --directory --owner sluice --group sluice /data /var/cache/sluice
WORKDIR /data
VOLUME /data
# For `run`, and for `replay --http 127.0.0.1:9464`; other commands end before the first check.
HEALTHCHECK --interval=15s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9464/livez', timeout=2)"]
# Exec form: SIGTERM reaches sluice, which drains and closes the run.
STOPSIGNAL SIGTERM
ENTRYPOINT ["sluice"]
CMD ["run", "hgcal"]

# CUDA, cuDNN and TensorRT come as wheels; of the host's driver, --gpus brings what belongs to it.
FROM system AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    SLUICE_ENGINES=/data/engines
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=bind,source=constraints-gpu.txt,target=/constraints-gpu.txt \
    pip install --no-cache-dir --compile --constraint /constraints.txt --constraint /constraints-gpu.txt \
    "$(echo /wheels/*.whl)[gpu]"
USER sluice
RUN ["sluice", "check", "hgcal"]

# The last target is what is built where none is named.
FROM system AS runtime
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir --compile --constraint /constraints.txt "$(echo /wheels/*.whl)[cpu]"
USER sluice
RUN ["sluice", "check", "hgcal"]
