"""What the server answers: an OpenAPI document, and a page that needs nothing from elsewhere.

Both are made from the list of calls by which the server answers, and from the data classes of
`messages`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from typing import Any, Literal, Union

from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from napari_unet.core.json_types import JsonObject
from napari_unet.serving.messages import JOB_ID, MESSAGES, RELEASE, SHA256
from napari_unet.serving.server.guard import OPEN

Endpoint = Callable[[Request], Awaitable[Response]]
# The JSON of the request that adds a job.
NEW_JOB: Any = Union[  # noqa: UP007
    tuple(
        make_dataclass(f"{message.__name__}Job", [("kind", Literal[kind]), ("request", message)])
        for kind, message in MESSAGES.items()
    )
]
# For slices, see `_Schemas`.
_CONFIG = ConfigDict(arbitrary_types_allowed=True)
_OF_PATHS: Mapping[str, Mapping[str, object]] = {
    "job": {"type": "string", "pattern": f"^{JOB_ID.pattern}$"},
    "sha256": {"type": "string", "pattern": f"^{SHA256.pattern}$"},
    "name": {"enum": ["labels", "model"]},
}


@dataclass(frozen=True)
class Call:
    """A request that is answered; the docstring of its answer says what it does.

    Attributes
    ----------
    method, path
        Of the request.
    answer
        Answers it.
    body
        Type of the JSON that is sent; `bytes` for other content, None for nothing.
    returns
        Data class of the answer; None for one that is not described further.
    parameters
        Those that are not part of the path, as OpenAPI has them.
    """

    method: str
    path: str
    answer: Endpoint
    body: Any = None
    returns: Any = None
    parameters: Sequence[Mapping[str, object]] = ()

    @property
    def words(self) -> str:
        """What it does."""
        return " ".join((self.answer.__doc__ or "").split())


def document(calls: Sequence[Call]) -> JsonObject:
    """Return the OpenAPI document of these calls."""
    kinds = {each for call in calls for each in (call.body, call.returns)} - {None, bytes}
    answers, schemas = TypeAdapter.json_schemas(
        # A list, because settings cannot be given for a data class itself.
        [
            (kind, "validation", TypeAdapter(list[kind], config=_CONFIG))  # type: ignore[valid-type]
            for kind in kinds
        ],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Schemas,
    )
    content: dict[Any, Any] = {None: {}, bytes: {"content": {"application/octet-stream": {}}}}
    for (kind, _), schema in answers.items():
        content[kind] = {"content": {"application/json": {"schema": schema["items"]}}}
    paths: JsonObject = {}
    for call in calls:
        of_path = [
            {"name": name, "in": "path", "required": True, "schema": _OF_PATHS[name]}
            for name in re.findall(r"{(\w+)}", call.path)
        ]
        described = {
            "summary": call.words,
            "parameters": [*of_path, *call.parameters],
            "responses": {
                "2XX": {"description": "Done."} | content[call.returns],
                "4XX": {"description": "Refused: {'error': 'a sentence'}."},
            },
        }
        if call.body:
            described["requestBody"] = content[call.body]
        if call.path in OPEN:
            described["security"] = []
        paths.setdefault(call.path, {})[call.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "napari-unet serve", "version": RELEASE},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def page(calls: Sequence[Call]) -> str:
    """Return the same as a page of HTML."""
    rows = "".join(
        f"<tr><td><code>{call.method}</code><td><code>{html.escape(call.path)}</code>"
        f"<td>{html.escape(call.words)}</tr>"
        for call in calls
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>napari-unet serve</title>"
        "<style>body{font:16px sans-serif;margin:2em;max-width:60em}td{padding:.3em .8em}</style>"
        "<h1>napari-unet serve</h1><p>This server segments images, and teaches models, for people "
        "who have a token: <code>Authorization: Bearer TOKEN</code>. The form of each message is "
        f'in <a href="openapi.json">openapi.json</a>.<table>{rows}</table>'
    )


class _Schemas(GenerateJsonSchema):
    """Schemas of data classes as `jsons` writes them: a slice is a list of its start and stop."""

    def is_instance_schema(self, schema: object) -> JsonObject:
        """Return the schema of a slice, the only type that pydantic does not know."""
        return {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "integer"}]}
