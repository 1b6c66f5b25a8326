# A server that runs as nobody in particular on a root file system that it cannot write to:
#     docker run --read-only --tmpfs /tmp -v memoturn:/data --env-file memoturn.env -p 127.0.0.1:8080:8080 memoturn
# /data holds the commit log, and the cache of a remote store. Keep it: what was acknowledged is there until it is shipped.

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m venv /opt/memoturn \
    && /opt/memoturn/bin/pip install --no-cache-dir --disable-pip-version-check ".[server,otel]"

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin memoturn \
    && install -d -o 10001 -g 10001 -m 0700 /data
COPY --from=build /opt/memoturn /opt/memoturn
ENV PATH=/opt/memoturn/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MEMOTURN_DATA_DIR=/data \
    MEMOTURN_LISTEN=0.0.0.0:8080
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
# On SIGTERM the server takes no more, finishes, ships and lets go.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=2)"]
ENTRYPOINT ["memoturn"]
CMD ["serve"]
