"""What holds for every test: one thread, fixed seeds, no network."""

import os
import random
import socket
import sys
from typing import Any

import pytest
from hypothesis import settings

# Read by the math libraries when torch is first imported, so before any test module is.
os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
# The model hubs then say "offline" at once instead of trying.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

# `--hypothesis-profile=explore` looks for new examples; the default run is the same every time.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("repeatable")

LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}


@pytest.fixture(autouse=True)
def one_thread_and_fixed_seeds() -> None:
    """Every test starts from the same random state, whatever ran before it."""
    random.seed(0)
    # Looked up rather than imported: tests that need no torch must not pay for importing it.
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up or connecting to another machine raises RuntimeError, which no download code takes for a bad line."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def demand_local(host: Any) -> None:
        if host is not None and host not in LOCAL_HOSTS:
            raise RuntimeError(f"tests must not use the network, but this one asked for {host!r}")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            demand_local(address[0])
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            demand_local(address[0])
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        demand_local(host)
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
