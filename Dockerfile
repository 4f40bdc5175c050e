# Two images from one file: `service` answers HTTP and holds no torch; `worker` runs the jobs.
#   docker build --target service -t modelpress-service .
#   docker build --target worker -t modelpress-worker .
FROM python:3.11-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN groupadd --system --gid 10001 modelpress \
    && useradd --system --uid 10001 --gid modelpress --home-dir /var/lib/modelpress --create-home modelpress \
    && mkdir -p /var/lib/modelpress/data /var/lib/modelpress/scratch && chown -R modelpress:modelpress /var/lib/modelpress
WORKDIR /app
COPY constraints.txt pyproject.toml README.md LICENSE ./

FROM base AS service
COPY contract contract
COPY storage storage
COPY service service
COPY modelpress modelpress
RUN pip install --constraint constraints.txt '.[service]' && rm -rf build
WORKDIR /var/lib/modelpress
USER modelpress
ENV MODELPRESS_HOST=0.0.0.0 MODELPRESS_DATA_DIR=/var/lib/modelpress/data
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["python", "-m", "service"]

FROM base AS worker
# TORCH=cuda takes the build with CUDA that PyPI serves; cpu, the default, the small one where it is to be had.
ARG TORCH=cpu
# EXTRAS=worker,executorch,nncf writes and proves .pte files, and OpenVINO's with the integers of NNCF, too.
ARG EXTRAS=worker
RUN version="$(sed -n 's/^torch==//p' constraints.txt)" \
    && if [ "$TORCH" = cpu ]; then \
         pip install --no-deps --retries 0 "torch==$version+cpu" \
         || pip install --no-deps --index-url https://download.pytorch.org/whl/cpu "torch==$version"; \
       else pip install --no-deps "torch==$version"; fi
# COMPILER=true has g++, with which torch compiles what it proves of model.inductor.pt2.
ARG COMPILER=false
RUN if [ "$COMPILER" = true ]; then \
      apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*; fi
COPY contract contract
COPY storage storage
COPY compressor compressor
COPY worker worker
COPY modelpress modelpress
RUN pip install --constraint constraints.txt ".[$EXTRAS]" && rm -rf build
WORKDIR /var/lib/modelpress
USER modelpress
ENV MODELPRESS_DATA_DIR=/var/lib/modelpress/data
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 CMD ["python", "-m", "worker.health"]
CMD ["python", "-m", "worker"]
