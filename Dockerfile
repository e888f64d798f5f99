# The image of Ray's head, its workers and every job: Python, the locked dependencies, one build of torch, this clone.
#
#   docker build -t zooforge:dev .                                    CPU
#   docker build -t zooforge:dev-cu130 --build-arg TORCH_INDEX=cu130 .  NVIDIA GPUs
#
# The first stage downloads all wheels and checks them against requirements/*.lock; the later stages install only from
# its folder. Every stage uses the pip settings (a mirror, PIP_FIND_LINKS) that the builder mounts.

FROM docker.io/library/python:3.11-slim-bookworm AS wheels
ARG TORCH_INDEX=cpu
WORKDIR /build
COPY requirements/base.lock requirements/torch.lock requirements/torch-cuda.lock ./
RUN python -m pip download --no-cache-dir --no-deps --require-hashes --dest /wheels --requirement base.lock
# The lock has no hash for torch, since the build depends on TORCH_INDEX. The version is the locked one. The extra
# dependencies of a CUDA build are downloaded with it.
RUN set -eu; case "$TORCH_INDEX" in cpu) deps=--no-deps ;; cu126 | cu128 | cu130) deps= ;; \
        *) echo "TORCH_INDEX is $TORCH_INDEX; known are cpu, cu126, cu128, cu130" >&2; exit 2 ;; esac; \
    sed -E -e '/^(#|--| )/d' -e 's/ *(;.*)?\\?$//' base.lock > versions.txt; \
    python -m pip --retries 1 --timeout 15 download --no-cache-dir $deps --dest /wheels --find-links /wheels \
        --constraint versions.txt --extra-index-url "https://download.pytorch.org/whl/$TORCH_INDEX" \
        "$(sed -n 's/^torch==.*/&/p' torch.lock)+$TORCH_INDEX"

FROM docker.io/library/python:3.11-slim-bookworm AS native
# hadolint ignore=DL3008  # Debian keeps one version of a package per release
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/zooforge
COPY pyproject.toml ./
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    set -eu; python -m venv /build/venv; \
    python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["native"], sep="\n")' > /build/native.txt; \
    /build/venv/bin/python -m pip install --no-cache-dir --no-index --find-links /wheels --requirement /build/native.txt numpy
COPY zoo_jobs/engines/lanes/ zoo_jobs/engines/lanes/
RUN /build/venv/bin/python zoo_jobs/engines/lanes/build.py && ls zoo_jobs/engines/lanes/_lanes*.so

FROM docker.io/library/python:3.11-slim-bookworm AS environment
WORKDIR /opt/zooforge
COPY pyproject.toml hatch_build.py README.md LICENSE zooforge.py ./
# Install only the dependencies of running code: the lock also has linters, compilers and test tools.
# hadolint ignore=DL3013  # the only versions in /wheels are the locked ones
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    set -eu; mkdir /build; \
    python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb")); o = p["project"]["optional-dependencies"]; print(*p["project"]["dependencies"], *o["train"], *o["cluster"], *o["s3"], *o["hub"], *p["dependency-groups"]["demo"], sep="\n")' > /build/wanted.txt; \
    python -m venv /opt/venv; \
    python -m pip install --no-cache-dir --no-index --find-links /wheels --target /build/tools hatchling; \
    /opt/venv/bin/python -m pip install --no-cache-dir --no-index --find-links /wheels --requirement /build/wanted.txt; \
    PYTHONPATH=/build/tools /opt/venv/bin/python -m pip install --no-cache-dir --no-index --no-deps --no-build-isolation --editable .; \
    /opt/venv/bin/python -m pip uninstall --yes pip

FROM docker.io/library/python:3.11-slim-bookworm
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="zooforge" \
      org.opencontainers.image.description="Grow, sparsify, publish and read model zoos on Ray" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# hadolint ignore=DL3008  # Debian keeps one version of a package per release
RUN apt-get update && apt-get install -y --no-install-recommends tini && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 zoo && useradd --uid 1000 --gid 1000 --create-home zoo
COPY --from=environment /opt/venv /opt/venv
WORKDIR /opt/zooforge
COPY . .
COPY --from=native /opt/zooforge/zoo_jobs/engines/lanes/ zoo_jobs/engines/lanes/
# Compile bytecode here: without it Ray takes minutes to start, and in the cluster the root file system is read-only.
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/zooforge
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/home/zoo \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0
USER 1000:1000
ENTRYPOINT ["tini", "-g", "--"]
CMD ["zoo", "--help"]
