# The stub as a container: docker build -t oceanmock . && docker run -p 8080:8080 oceanmock
# With your own scenarios: docker run -p 8080:8080 -v ./scenarios:/scenarios -e OCEANMOCK_SCENARIOS=/scenarios oceanmock
FROM python:3.13-slim
COPY requirements/dev.txt pyproject.toml README.md LICENSE /oceanmock/
COPY src /oceanmock/src
COPY openapi /oceanmock/openapi
COPY scenarios /oceanmock/scenarios
RUN pip install --no-cache-dir -c /oceanmock/dev.txt "/oceanmock[metrics,redis]" && rm -r /oceanmock && useradd --uid 10001 oceanmock
USER 10001
VOLUME /scenarios
WORKDIR /scenarios
# Other machines can connect: give a token of your own, or read the one that is generated and printed.
ENV OCEANMOCK_HOST=0.0.0.0 OCEANMOCK_LOG_FORMAT=text OCEANMOCK_URL=http://127.0.0.1:8080
EXPOSE 8080
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s CMD ["oceanmock", "wait", "--timeout", "2s"]
ENTRYPOINT ["oceanmock"]
CMD ["serve"]
