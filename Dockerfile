# Two stages: what builds stays behind, what runs has no compiler, no pip cache and no root.
FROM python:3.13-slim AS build

WORKDIR /build
RUN python -m venv /opt/sitepair
COPY requirements.lock ./
RUN /opt/sitepair/bin/python -m pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE openapi.yaml ./
COPY service/ service/
COPY simulator/ simulator/
COPY migrations/ migrations/
RUN /opt/sitepair/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim

# A fixed number, so that a volume's owner is the same on every host.
RUN groupadd --gid 10001 sitepair \
    && useradd --uid 10001 --gid sitepair --home-dir /var/lib/sitepair --create-home sitepair
COPY --from=build /opt/sitepair /opt/sitepair

ENV PATH=/opt/sitepair/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SITEPAIR_DATA_DIR=/var/lib/sitepair \
    SITEPAIR_LISTEN=0.0.0.0:8080

USER sitepair
# The root file system may be read-only: this is the only place that is written to.
VOLUME ["/var/lib/sitepair"]
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["sitepair"]
CMD ["serve"]
