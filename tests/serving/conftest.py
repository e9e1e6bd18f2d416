from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAI
from serving_fakes import Chooser, Shouter, running


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """One server with a model that writes and one that chooses."""
    models = {"shouter": Shouter, "org/chooser": lambda: Chooser(generates=False)}
    with running(models, "shouter", max_body_bytes=20_000) as url:
        yield url


@pytest.fixture(scope="module")
def client(server: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server}/v1", api_key="unused", max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=20) as client:
        yield client
