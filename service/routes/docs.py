"""The API's description as a page that needs no other host."""

from functools import cache
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, select_autoescape

router = APIRouter()


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """Every operation, by tag."""
    return HTMLResponse(_page(request.app))


@cache
def _page(app: Any) -> str:
    document = app.openapi()
    operations: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = (operation.get("tags") or ["other"])[0]
            operations.setdefault(tag, []).append({"method": method.upper(), "path": path, **operation})
    environment = Environment(loader=PackageLoader("service", "web"), autoescape=select_autoescape())
    return environment.get_template("docs.html").render(info=document["info"], operations=operations)
