"""A STAC API over a memory catalog: stac-fastapi's routes and models, CQL2, sorting, paging by token."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

import attr
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, Field
from stac_fastapi.api.app import StacApi
from stac_fastapi.api.models import (
    GeoJSONResponse,
    ItemCollectionUri,
    create_get_request_model,
    create_post_request_model,
    create_request_model,
)
from stac_fastapi.extensions import (
    FilterExtension,
    QueryExtension,
    SortExtension,
    TokenPaginationExtension,
)
from stac_fastapi.extensions.filter.client import BaseFiltersClient
from stac_fastapi.types.config import ApiSettings
from stac_fastapi.types.core import BaseCoreClient
from stac_fastapi.types.errors import InvalidQueryParameter, NotFoundError
from stac_fastapi.types.requests import get_base_url
from stac_fastapi.types.rfc3339 import str_to_interval
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from deployments.stac_server.memory import BadQuery, Document, MemoryCatalog, Page, Query
from deployments.stac_server.request_log import RequestLog

Source = Callable[[], MemoryCatalog]
"""Gives the catalog as it is now; called once per request."""

CRS84 = ("http://www.opengis.net/def/crs/OGC/1.3/CRS84", "http://www.opengis.net/def/crs/OGC/1.3/CRS84h")
SORT_CLASSES = [
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/ogcapi-features#sort",
]
KEPT_LINKS = {"license", "derived_from", "via", "cite-as", "about", "canonical", "predecessor-version"}
"""Relations of a stored item that stay; the others say where it once was served."""


class FilterPostRequest(BaseModel):
    """CQL2 in a POST body: JSON, or text as a string."""

    filter_expr: dict[str, Any] | str | None = Field(None, alias="filter")
    filter_crs: str | None = Field(None, alias="filter-crs")
    filter_lang: str | None = Field(None, alias="filter-lang")


@attr.s
class CqlExtension(FilterExtension):
    """stac-fastapi's filter extension, with text allowed in POST too."""

    POST: type[BaseModel] = FilterPostRequest


@attr.s
class Queryables(BaseFiltersClient):
    """What the items at hand can be filtered by."""

    source: Source = attr.ib(kw_only=True)

    def get_queryables(self, collection_id: str | None = None, **kwargs: Any) -> dict[str, Any]:
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": str(kwargs["request"].url),
            "type": "object",
            "title": "Queryables",
            "properties": self.source().queryables(collection_id),
            "additionalProperties": True,
        }


@attr.s
class MemoryClient(BaseCoreClient):
    """Answers stac-fastapi's routes from a memory catalog."""

    source: Source = attr.ib(kw_only=True)

    def landing_page(self, **kwargs: Any) -> Any:
        request: Request = kwargs["request"]
        base = get_base_url(request)
        page: dict[str, Any] = dict(
            self._landing_page(
                base_url=base, conformance_classes=self.conformance_classes(), extension_schemas=[]
            )
        )
        page["links"] += [
            _link(
                "http://www.opengis.net/def/rel/ogc/1.0/queryables",
                urljoin(base, "queryables"),
                "schema+json",
            ),
            _link("service-desc", str(request.url_for("openapi")), "vnd.oai.openapi+json;version=3.0"),
            *(
                _link("child", urljoin(base, f"collections/{name}"), "json")
                for name in sorted(self.source().collections)
            ),
        ]
        return JSONResponse(page)

    def all_collections(self, **kwargs: Any) -> Any:
        base = get_base_url(kwargs["request"])
        documents = self.source().collections
        return JSONResponse(
            {
                "collections": [_collection(documents[name], base) for name in sorted(documents)],
                "links": [
                    _link("self", urljoin(base, "collections"), "json"),
                    _link("root", base, "json"),
                ],
                "numberMatched": len(documents),
                "numberReturned": len(documents),
            }
        )

    def get_collection(self, collection_id: str, **kwargs: Any) -> Any:
        document = self._known_collection(collection_id)
        return JSONResponse(_collection(document, get_base_url(kwargs["request"])))

    def get_item(self, item_id: str, collection_id: str, **kwargs: Any) -> Any:
        self._known_collection(collection_id)
        item = self.source().item(collection_id, item_id)
        if item is None:
            raise NotFoundError(f"there is no item {item_id} in collection {collection_id}")
        return GeoJSONResponse(_item(item, get_base_url(kwargs["request"])))

    def item_collection(
        self,
        collection_id: str,
        bbox: Any = None,
        datetime: str | None = None,
        limit: int | None = 10,
        token: str | None = None,
        **kwargs: Any,
    ) -> Any:
        self._known_collection(collection_id)
        return self.get_search(
            collections=[collection_id], bbox=bbox, datetime=datetime, limit=limit, token=token, **kwargs
        )

    def get_search(
        self,
        collections: list[str] | None = None,
        ids: list[str] | None = None,
        bbox: Any = None,
        intersects: Any = None,
        datetime: str | None = None,
        limit: int | None = 10,
        **kwargs: Any,
    ) -> Any:
        request: Request = kwargs["request"]
        if bbox and intersects:
            raise InvalidQueryParameter("intersects and bbox are mutually exclusive")
        language = kwargs.get("filter_lang") or "cql2-text"
        text = kwargs.get("filter_expr")
        page = self._search(
            collections=collections,
            ids=ids,
            bbox=bbox,
            intersects=_json(intersects, "intersects") if intersects else None,
            datetime=datetime,
            limit=limit,
            filters=[
                _json(text, "filter") if text and language == "cql2-json" else text,
                *_comparisons(_json(kwargs["query"], "query") if kwargs.get("query") else None),
            ],
            filter_crs=kwargs.get("filter_crs"),
            sortby=[_sort_text(part) for part in kwargs.get("sortby") or []],
            token=kwargs.get("token"),
        )
        links = []
        if page.next_token:
            parameters = dict(request.query_params) | {"token": page.next_token}
            href = str(request.url.replace(query=urlencode(parameters)))
            links.append({**_link("next", href, "geo+json"), "method": "GET"})
        return _answer(page, links, request)

    def post_search(self, search_request: Any, **kwargs: Any) -> Any:
        request: Request = kwargs["request"]
        body = search_request.model_dump(mode="json", by_alias=True, exclude_none=True)
        sent: str | dict[str, Any] | None = body.get("filter")
        if isinstance(sent, str) and body.get("filter-lang") == "cql2-json":
            sent = _json(sent, "filter")
        page = self._search(
            collections=body.get("collections"),
            ids=body.get("ids"),
            bbox=body.get("bbox"),
            intersects=body.get("intersects"),
            datetime=body.get("datetime"),
            limit=body.get("limit"),
            filters=[sent, *_comparisons(body.get("query"))],
            filter_crs=body.get("filter-crs"),
            sortby=[(part["field"], part["direction"] == "desc") for part in body.get("sortby") or []],
            token=body.get("token"),
        )
        links = []
        if page.next_token:
            href = urljoin(get_base_url(request), "search")
            following = body | {"token": page.next_token}
            links.append({**_link("next", href, "geo+json"), "method": "POST", "body": following})
        return _answer(page, links, request)

    def _search(
        self,
        *,
        datetime: str | None,
        limit: int | None,
        filters: list[Any],
        filter_crs: str | None,
        **parts: Any,
    ) -> Page:
        if filter_crs not in (None, *CRS84):
            raise InvalidQueryParameter(f"filter-crs {filter_crs} is not served; leave it out")
        interval = str_to_interval(datetime)
        start, end = interval if isinstance(interval, tuple) else (interval, interval)
        given = [part for part in filters if part]
        whole = given[0] if len(given) == 1 else {"op": "and", "args": [_as_json(part) for part in given]}
        try:
            return self.source().search(
                Query(start=start, end=end, limit=limit or 10, filter=whole if given else None, **parts)
            )
        except BadQuery as error:
            raise InvalidQueryParameter(str(error)) from error

    def _known_collection(self, collection_id: str) -> Document:
        document = self.source().collections.get(collection_id)
        if document is None:
            raise NotFoundError(f"there is no collection {collection_id}")
        return document


def make_app(
    source: Source,
    *,
    title: str,
    description: str,
    asset: Callable[[str], Path | None] | None = None,
    middleware: Sequence[Middleware] = (),
) -> FastAPI:
    """A STAC API as an ASGI application.

    ``asset`` finds the file behind ``/assets/<path>``; without it there is no such route. ``middleware`` lies
    between the request log and everything else: whatever it does to a request, the log has counted it.
    """
    extensions: list[Any] = [
        CqlExtension(client=Queryables(source=source)),
        SortExtension(conformance_classes=SORT_CLASSES),
        QueryExtension(),
        TokenPaginationExtension(),
    ]
    paging: list[Any] = [extensions[0], extensions[1], extensions[3]]
    items_request: Any = create_request_model(
        "ItemsGetRequest", base_model=ItemCollectionUri, extensions=paging, request_type="GET"
    )
    app = FastAPI(title=title, description=description, openapi_url="/api", docs_url=None, redoc_url=None)
    if asset is not None:
        _serve_assets(app, asset)
    settings = ApiSettings(
        _env_file=None,
        stac_fastapi_title=title,
        stac_fastapi_description=description,
        stac_fastapi_landing_id="swath",
        stac_fastapi_version="1",
    )
    api = StacApi(
        settings=settings,
        client=MemoryClient(source=source, landing_page_id="swath"),
        extensions=extensions,
        app=app,
        search_get_request_model=create_get_request_model(extensions),
        search_post_request_model=create_post_request_model(extensions),
        items_get_request_model=items_request,
        middlewares=[*reversed(middleware), Middleware(RequestLog)],
    )
    return api.app


def _serve_assets(app: FastAPI, find: Callable[[str], Path | None]) -> None:
    """``/assets/…``: whole files and byte ranges, GET and HEAD; starlette's FileResponse knows both."""

    @app.api_route("/assets/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    def read_asset(path: str) -> Response:
        file = find(path)
        if file is None:
            raise HTTPException(404, f"there is no asset {path}")
        return FileResponse(file, media_type=_media_type(file), stat_result=file.stat())


def _media_type(file: Path) -> str:
    if file.suffix.lower() in (".tif", ".tiff"):
        return "image/tiff; application=geotiff"
    return {".json": "application/json", ".xml": "application/xml", ".txt": "text/plain"}.get(
        file.suffix.lower(), "application/octet-stream"
    )


def _answer(page: Page, links: list[Document], request: Request) -> Response:
    base = get_base_url(request)
    return GeoJSONResponse(
        {
            "type": "FeatureCollection",
            "features": [_item(item, base) for item in page.items],
            "links": [_link("root", base, "json"), _link("self", str(request.url), "geo+json"), *links],
            "numberMatched": page.matched,
            "numberReturned": len(page.items),
        }
    )


def _item(item: Document, base: str) -> Document:
    """The stored item with this server's links and absolute asset addresses."""
    collection = urljoin(base, f"collections/{item['collection']}")
    assets = {
        key: {**asset, "href": urljoin(base, asset["href"])} for key, asset in item.get("assets", {}).items()
    }
    return {
        **item,
        "assets": assets,
        "links": [
            _link("self", f"{collection}/items/{item['id']}", "geo+json"),
            _link("parent", collection, "json"),
            _link("collection", collection, "json"),
            _link("root", base, "json"),
            *(link for link in item.get("links", []) if link.get("rel") in KEPT_LINKS),
        ],
    }


def _collection(document: Document, base: str) -> Document:
    href = urljoin(base, f"collections/{document['id']}")
    return {
        **document,
        "links": [
            _link("self", href, "json"),
            _link("parent", base, "json"),
            _link("root", base, "json"),
            _link("items", f"{href}/items", "geo+json"),
            _link("http://www.opengis.net/def/rel/ogc/1.0/queryables", f"{href}/queryables", "schema+json"),
            *(link for link in document.get("links", []) if link.get("rel") in KEPT_LINKS),
        ],
    }


def _link(relation: str, href: str, kind: str) -> Document:
    return {"rel": relation, "href": href, "type": f"application/{kind}"}


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidQueryParameter(f"{name} is no JSON: {error}") from error


def _as_json(part: Any) -> Any:
    """CQL2 text and JSON side by side become JSON."""
    if not isinstance(part, str):
        return part
    import cql2

    try:
        return cql2.parse_text(part).to_json()
    except Exception as error:
        raise InvalidQueryParameter(f"filter is no CQL2: {error}") from error


def _sort_text(part: str) -> tuple[str, bool]:
    return part.lstrip("+- "), part.startswith("-")


OPERATORS = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "in": "in"}
PATTERNS = {"startsWith": "{}%", "endsWith": "%{}", "contains": "%{}%"}


def _comparisons(query: Any) -> list[Document]:
    """The query extension's ``{field: {operator: value}}`` as CQL2 comparisons."""
    found = []
    for name, tests in (query or {}).items():
        for operator, value in tests.items():
            if operator in PATTERNS:
                operator, value = "like", PATTERNS[operator].format(value)
            elif operator in OPERATORS:
                operator = OPERATORS[operator]
            else:
                raise InvalidQueryParameter(f"query: unknown operator {operator}")
            found.append({"op": operator, "args": [{"property": name.removeprefix("properties.")}, value]})
    return found
