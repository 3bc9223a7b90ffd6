"""What the server answers: an OpenAPI document, and a page that needs nothing from elsewhere.

The schemas are made from the data classes of `messages`.
"""

from __future__ import annotations

import html
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from napari_unet.serving.messages import MESSAGES, RELEASE, Hello, JobStatus, SentView

_ID = {"name": "job", "in": "path", "required": True,
       "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}  # fmt: skip
_SHA = {"name": "sha256", "in": "path", "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"}}  # fmt: skip
_RANGE = {"name": "Content-Range", "in": "header", "required": True,
          "schema": {"type": "string", "pattern": "^bytes \\d+-\\d+/\\d+$"}}  # fmt: skip
_WAIT = [
    {"name": "since", "in": "query", "schema": {"type": "integer"},
     "description": "Number of the last progress report that is known."},
    {"name": "wait", "in": "query", "schema": {"type": "number", "maximum": 20},
     "description": "Seconds to wait for a change."},
]  # fmt: skip
_JOB, _BLOB = "/v1/jobs/{job}", "/v1/blobs/{sha256}"
# Path, method, what it does, parameters, schema of the body, schema of the answer.
_CALLS: list[tuple[str, str, str, list[Any], str | None, str | None]] = [
    ("/health", "get", "Whether the server runs; needs no token.", [], None, None),
    ("/v1/hello", "get", "Release, name of the server, person and rights.", [], None, "Hello"),
    ("/v1/jobs", "get", "Your jobs.", [], None, None),
    (_JOB, "put", "Add a job; the id is yours to choose. Repeating it changes nothing.",
     [_ID], "Job", "JobStatus"),
    (_JOB, "get", "State, position, news, and what the job waits for.",
     [_ID, *_WAIT], None, "JobStatus"),
    (_JOB, "delete", "Cancel a job, and delete it with its result and its images.",
     [_ID], None, None),
    (f"{_JOB}/inputs", "put", "Say which blob is an input that the job wants.",
     [_ID], "Input", None),
    (f"{_JOB}/view", "put", "Say what the user looks at, while a model learns.",
     [_ID], "SentView", None),
    (f"{_JOB}/wishes", "put", "End a training early and keep it, or give it more time.",
     [_ID], "Wishes", None),
    (f"{_JOB}/result", "get", "The result of a job that is done.", [_ID], None, None),
    (f"{_JOB}/outputs/labels", "get", "Labels: an array, see blobs.", [_ID], None, None),
    (f"{_JOB}/outputs/model", "get", "The new model: a safetensors file.", [_ID], None, None),
    (_BLOB, "get", "A blob that you sent. Status 404 has the header Upload-Offset: how much of it "
     "is there.", [_SHA], None, None),
    (_BLOB, "put", "Send a part of a blob: a file, or an array (npy 1.0 without pickles, as a "
     "whole through zlib). Parts come in their order; status 409 has the header Upload-Offset.",
     [_SHA, _RANGE], "bytes", None),
]  # fmt: skip


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    schemas: dict[str, Any] = {}
    kinds = [
        {
            "type": "object",
            "required": ["kind", "request"],
            "properties": {"kind": {"const": kind}, "request": _schema(message, schemas)},
        }
        for kind, message in MESSAGES.items()
    ]
    for message in (Hello, JobStatus, SentView):
        _schema(message, schemas)
    text, number = {"type": "string"}, {"type": ["number", "null"]}
    schemas["Job"] = {"oneOf": kinds}
    schemas["Input"] = {"type": "object", "properties": {"key": text, "sha256": text}}
    schemas["Wishes"] = {
        "type": "object", "properties": {"finish": {"type": "boolean"}, "extended_s": number},
    }  # fmt: skip
    paths: dict[str, Any] = {}
    for path, method, words, parameters, body, answer in _CALLS:
        call: dict[str, Any] = {"summary": words, "parameters": parameters}
        if body == "bytes":
            call["requestBody"] = {"content": {"application/octet-stream": {}}}
        elif body:
            call["requestBody"] = {"content": _content(body)}
        done = {"description": "Done."} | ({"content": _content(answer)} if answer else {})
        call["responses"] = {
            "2XX": done,
            "4XX": {"description": "Refused: {'error': 'a sentence'}."},
        }
        if path == "/health":
            call["security"] = []
        paths.setdefault(path, {})[method] = call
    return {
        "openapi": "3.1.0",
        "info": {"title": "napari-unet serve", "version": RELEASE},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


@cache
def page() -> str:
    """Return the same as a page of HTML."""
    rows = "".join(
        f"<tr><td><code>{method.upper()}</code><td><code>{html.escape(path)}</code>"
        f"<td>{html.escape(words)}</tr>"
        for path, method, words, *_ in _CALLS
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>napari-unet serve</title>"
        "<style>body{font:16px sans-serif;margin:2em;max-width:60em}td{padding:.3em .8em}</style>"
        "<h1>napari-unet serve</h1><p>This server segments images, and teaches models, for people "
        "who have a token: <code>Authorization: Bearer TOKEN</code>. The form of each message is "
        f'in <a href="openapi.json">openapi.json</a>.<table>{rows}</table>'
    )


def _content(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _schema(kind: Any, known: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of a type; those of data classes are added to `known`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(each, known) for each in inner]}
    if origin is Literal:
        return {"enum": list(inner)}
    if origin is tuple:
        if inner[-1:] == (...,):
            return {"type": "array", "items": _schema(inner[0], known)}
        return {"type": "array", "prefixItems": [_schema(each, known) for each in inner]}
    if origin is not None and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(inner[1], known)}
    if is_dataclass(kind):
        name = kind.__name__  # type: ignore[union-attr]
        if name not in known:
            hints = get_type_hints(kind)
            known[name] = {
                "type": "object",
                "properties": {f.name: _schema(hints[f.name], known) for f in fields(kind)},
                "required": [
                    f.name
                    for f in fields(kind)
                    if f.default is MISSING and f.default_factory is MISSING
                ],
            }
        return {"$ref": f"#/components/schemas/{name}"}
    if kind is slice:
        return {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "integer"}]}
    names = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
    return {"type": names[kind]}
