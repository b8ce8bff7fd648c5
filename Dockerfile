# The image of mcsdns: CPython, the locked packages and mcsdns; no compiler, no pip, no root.
#
# CPython 3.11: the receive loop was measured faster on it than on 3.12 and 3.13.
# A build that must repeat names the base image by digest: --build-arg PYTHON=python@sha256:...
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements/ requirements/
# Hashes are required for all that comes from outside, the build backend too; wheels only, so nothing is compiled.
RUN python -m venv --without-pip /opt/mcsdns \
 && pip --python /opt/mcsdns/bin/python install --require-hashes --only-binary :all: -r requirements/run.txt \
 && pip install --require-hashes --only-binary :all: -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY mcsdns/ mcsdns/
RUN pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
 && pip --python /opt/mcsdns/bin/python install --no-deps --no-index /wheels/mcsdns-*.whl

FROM ${PYTHON}
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mcsdns" \
      org.opencontainers.image.description="A DNS server for the Kubernetes Multi-Cluster Services API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# The base image brings pip and its copy in ensurepip; mcsdns needs neither.
RUN pip uninstall --yes --root-user-action=ignore wheel setuptools pip \
 && rm -rf /usr/local/lib/python3.*/ensurepip
COPY --from=build /opt/mcsdns /opt/mcsdns
# Outside a pod mcsdns would listen on loopback only, which nobody outside the container can reach. Port 5353 needs no privilege.
ENV PATH=/opt/mcsdns/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MCSDNS_LISTEN=0.0.0.0:5353,[::]:5353
USER 65532:65532
EXPOSE 5353/udp 5353/tcp
# For docker alone; Kubernetes ignores it. With another zone or port give --health-cmd.
HEALTHCHECK --interval=30s --timeout=3s --start-period=10s \
    CMD ["mcsdns", "query", "--server", "127.0.0.1:5353", "dns-version.clusterset.local", "TXT", "--short"]
ENTRYPOINT ["mcsdns"]
CMD ["serve"]
