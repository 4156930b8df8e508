"""The same API in this process, over a catalog that is no folder."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.responses import Response

from deployments.stac_server.api import make_app
from deployments.stac_server.memory import MemoryCatalog
from tests.deployments.stac_server.conftest import make_item


def ask(app: FastAPI, *requests: tuple[str, str]) -> list[httpx.Response]:
    async def all_of_them() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://catalog.test") as client:
            return [await client.request(method, path) for method, path in requests]

    return asyncio.run(all_of_them())


class Refusing:
    """Answers every asset read with 503."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        refused = scope["type"] == "http" and scope["path"].startswith("/assets/")
        await (Response(status_code=503) if refused else self.app)(scope, receive, send)


def test_a_catalog_in_memory_is_served_as_it_is_at_each_request() -> None:
    catalog = MemoryCatalog.of([], [make_item(1, "encoders")])
    app = make_app(lambda: catalog, title="Encoders", description="What was trained")
    (before,) = ask(app, ("GET", "/search?collections=encoders"))
    catalog.replace([], [make_item(number, "encoders") for number in range(3)])
    after, landing, assets = ask(app, ("GET", "/search"), ("GET", "/"), ("GET", "/assets/x"))
    assert (before.json()["numberMatched"], after.json()["numberMatched"]) == (1, 3)
    assert before.json()["features"][0]["links"][0]["href"].startswith("http://catalog.test/collections/")
    assert landing.json()["title"] == "Encoders"
    assert assets.status_code == 404


def test_middleware_lies_behind_the_request_log() -> None:
    app = make_app(
        lambda: MemoryCatalog.of([], [make_item(1)]),
        title="t",
        description="d",
        asset=lambda path: None,
        middleware=[Middleware(Refusing)],
    )
    refused, search, log = ask(app, ("GET", "/assets/B02.tif"), ("GET", "/search"), ("GET", "/_requests"))
    assert (refused.status_code, search.status_code) == (503, 200)
    assert (log.json()["asset"], log.json()["search"]) == (1, 1)
    assert log.json()["recent"][0] == ["GET", "/assets/B02.tif", "", 503]
