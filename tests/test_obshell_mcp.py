"""obshell-mcp from PyPI, the vendor's MCP server, makes a cluster and a tenant through its tools.

It is installed into an environment of its own, since it brings other versions of what oceanmock needs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

import pytest

from served import server

TOOLS: Final = """
import asyncio, os
from fastmcp import Client
from obshell_mcp.server import mcp

async def main():
    place = f"{os.environ['OBSHELL_HOST']}:{os.environ['OBSHELL_PORT']}"
    async with Client(mcp) as client:
        servers = {place: {"zone": "zone1", "memory_limit": "7G"}}
        await client.call_tool("create_cluster", {"servers_with_configs": servers, "cluster_id": 1})
        await client.call_tool("create_tenant", {"zone_replica_type": {"zone1": "FULL"}})

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has obshell-mcp."""
    folder = tmp_path_factory.mktemp("mcp")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    installed = subprocess.run(
        [python, "-m", "pip", "install", "-q", "obshell-mcp==0.0.1"], check=False, capture_output=True
    )
    if installed.returncode and "CI" not in os.environ:
        pytest.skip("obshell-mcp cannot be installed from here")
    assert installed.returncode == 0, installed.stderr
    return python


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="the environment's layout is that of POSIX")
def test_its_tools_make_a_cluster_and_a_tenant(python: Path) -> None:
    with server().obshell("single-to-tenant", progression="immediate") as sandbox:
        place = {"OBSHELL_HOST": sandbox.host, "OBSHELL_PORT": str(sandbox.port), "SYS_PASSWORD": "oceanmock"}
        environment = {**os.environ, **place, "TENANT_NAME": "t1", "NO_PROXY": "127.0.0.1", "PYTHONPATH": ""}
        ended = subprocess.run(
            [python, "-c", TOOLS], check=False, env=environment, capture_output=True, text=True, timeout=300
        )

        assert ended.returncode == 0, ended.stderr
        assert [dag.name for dag in sandbox.dags()][-2:] == ["Initialize cluster", "Create tenant t1"]
