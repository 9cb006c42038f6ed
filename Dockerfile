# The engine, the experiments and all that they need; README.md, "In a container", says how to run it.
#
#   docker build -t fcn .
#   docker build -t fcn --build-arg BASE=python:3.12-slim \
#       --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu .        without CUDA, and much smaller
#
# PyTorch's packages bring their own CUDA libraries: of the base they ask for nothing but the driver's hooks.
ARG BASE=nvidia/cuda:13.0.3-base-ubuntu24.04

FROM ${BASE} AS runtime

# Python, where the base has none. Its version is the base's to choose, so that none can be pinned here.
# hadolint ignore=DL3008
RUN python3 -c 'import ensurepip, venv' 2>/dev/null || { \
        apt-get update \
        && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
            ca-certificates python3 python3-venv \
        && rm -rf /var/lib/apt/lists/*; \
    }

# Where pip looks, for builds behind mirrors and with other builds of PyTorch.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ENV PATH=/opt/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

# The user's number is that of the first user on most hosts, so that what is written to a mounted folder is theirs. A base
# may have that user already. --no-log-init: with a large number, a log by numbers would fill the image.
ARG UID=1000
RUN { getent passwd "${UID}" || useradd --no-log-init --uid "${UID}" --create-home fcn; } \
    && python3 -m venv /opt/venv \
    && mkdir -p /fcn/data /fcn/results \
    && chown -R "${UID}" /fcn /opt/venv
USER ${UID}
WORKDIR /fcn

COPY --chown=${UID} pyproject.toml README.md LICENSE ./
COPY --chown=${UID} src src
RUN pip install --editable '.[fcn,draw,export]'
COPY --chown=${UID} . .

# What is kept: data sets and weights in the one, snapshots, scores and reports in the other.
VOLUME ["/fcn/data", "/fcn/results"]
ARG VERSION=unknown
ENV FCN_RESULTS=/fcn/results \
    FCN_VERSION=${VERSION}
CMD ["python", "docker/welcome.py"]


FROM runtime AS test
# The tests look for results where a checkout has them.
ENV FCN_RESULTS= FCN_VERSION=
RUN pip install --editable '.[fcn,draw,export,dev]'
CMD ["python", "-m", "pytest"]


FROM runtime
