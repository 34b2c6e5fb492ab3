# One image for all parts: `executor` (the default), `worker`, `migrate`, and the command line `interlock`.
FROM python:3.13-slim-trixie AS build

ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /build
COPY requirements.lock pyproject.toml README.md LICENSE ./

# The lock's own entry for uv, with its hashes: what installs the lock is pinned by the lock.
RUN sed -n '/^uv==/,/[^\\]$/p' requirements.lock > uv.lock \
    && pip install --no-cache-dir --require-hashes --no-deps -r uv.lock \
    && uv venv /opt/interlock

# pyproject.toml says what is needed at run time, the lock says which version and which bytes: as a constraint it
# brings neither the development tools nor the private PostgreSQL, and its hashes are verified all the same.
ENV UV_NO_CACHE=1 UV_PYTHON=/opt/interlock UV_CONSTRAINT=requirements.lock
RUN uv pip install --requirements pyproject.toml \
    && uv pip install --target /build/backend hatchling

COPY interlock interlock
COPY executor executor
COPY worker worker
COPY migrations migrations
RUN PYTHONPATH=/build/backend uv pip install --no-deps --no-build-isolation . \
    && ln -s interlock-executor /opt/interlock/bin/executor \
    && ln -s interlock-worker /opt/interlock/bin/worker \
    && printf '#!/bin/sh\nexec interlock migrate "$@"\n' > /opt/interlock/bin/migrate \
    && chmod 0755 /opt/interlock/bin/migrate


FROM python:3.13-slim-trixie

# Not pinned: the release's security updates are wanted here more than the same bytes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin interlock

COPY --from=build /opt/interlock /opt/interlock

# A container is its own network: probes and published ports need more than its loopback.
ENV PATH=/opt/interlock/bin:$PATH PYTHONDONTWRITEBYTECODE=1 INTERLOCK_HTTP=0.0.0.0:8480
USER 10001:10001
WORKDIR /tmp
EXPOSE 8480
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8480/livez', timeout=3)"]
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["executor"]
