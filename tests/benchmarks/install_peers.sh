#!/bin/sh
# Install the mock servers that bench_requests.py compares with, by package name: Prism from npm,
# WireMock and MockServer from Maven. Needs npm, mvn and java.
#
# Usage: tests/benchmarks/install_peers.sh FOLDER; then bench_requests.py --peers FOLDER
set -eu
folder=${1:?usage: install_peers.sh FOLDER}
mkdir -p "$folder"
cd "$folder"
npm install --silent --no-audit --no-fund @stoplight/prism-cli@5
mvn -q dependency:copy -Dartifact=org.wiremock:wiremock-standalone:3.13.2 -DoutputDirectory=wiremock
cat >pom.xml <<'POM'
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>peers</groupId><artifactId>peers</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.mock-server</groupId><artifactId>mockserver-netty</artifactId><version>7.6.0</version></dependency>
  </dependencies>
</project>
POM
mvn -q dependency:copy-dependencies -DoutputDirectory=mockserver
