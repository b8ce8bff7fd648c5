# The image of mcsdns: CPython, the locked packages and mcsdns; no compiler, no pip, no root. docs/image.md says more.
#
# CPython 3.11: the receive loop was measured faster on it than on 3.12 and 3.13.
# The tag names the patch level but moves with Debian's fixes; --build-arg PYTHON=...@sha256:... names one image for good.
ARG PYTHON=docker.io/library/python:3.11.16-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# What changes least comes first: a change of our code installs nothing from outside again.
COPY requirements/run.txt requirements/build.txt requirements/
# Hashes are required for all that comes from outside, the build backend too; wheels only, so nothing is compiled.
RUN python -m venv --without-pip /opt/mcsdns \
 && pip --python /opt/mcsdns/bin/python install --no-compile --require-hashes --only-binary :all: -r requirements/run.txt \
 && pip install --no-compile --require-hashes --only-binary :all: -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY mcsdns/ mcsdns/
# Bytecode that names no time: COPY may round that of a source (buildah does), and then each start compiles it again.
# Unchecked, since no file of an image changes. 0.5 s to ready at an API server, 1.8 s without these lines.
RUN pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
 && pip --python /opt/mcsdns/bin/python install --no-compile --no-deps --no-index /wheels/mcsdns-*.whl \
 && python -m compileall -qf --invalidation-mode unchecked-hash /opt/mcsdns/lib

FROM ${PYTHON}
# The base brings pip and its copy in ensurepip, which mcsdns does not need, and programs that make their caller root.
# It brings the standard library without bytecode: on a read-only file system each start would compile it again.
RUN pip uninstall --yes --root-user-action=ignore wheel setuptools pip \
 && rm -rf /usr/local/lib/python3.*/ensurepip \
 && python -m compileall -qf --invalidation-mode unchecked-hash -x '/(idlelib|lib2to3|pydoc_data|tkinter|turtledemo)/' \
    /usr/local/lib/python3.*/ \
 && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
COPY --from=build /opt/mcsdns /opt/mcsdns
# Outside a pod mcsdns would listen on loopback only, which nobody outside the container can reach. Port 5353 needs no privilege.
ENV PATH=/opt/mcsdns/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MCSDNS_LISTEN=0.0.0.0:5353,[::]:5353
USER 65532:65532
# DNS, and the probes that a pod has. The status page stays on loopback.
EXPOSE 5353/udp 5353/tcp 8080/tcp
STOPSIGNAL SIGTERM
# For docker alone; Kubernetes ignores it. Readiness as the status page's address tells it, whatever zones and ports are
# served, and through no proxy.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
    CMD ["python", "-Ic", "import http.client, os, sys; ask = http.client.HTTPConnection(os.environ.get('MCSDNS_ADMIN') or '127.0.0.1:8053', timeout=4); ask.request('GET', '/readyz'); sys.exit(ask.getresponse().status != 200)"]
ENTRYPOINT ["mcsdns"]
CMD ["serve"]
# Last, since each build may give others.
ARG PYTHON
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mcsdns" \
      org.opencontainers.image.description="A DNS server for the Kubernetes Multi-Cluster Services API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${PYTHON}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
