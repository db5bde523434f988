"""AWS's query protocol: parameters of a form in, XML out; pure.

Source: IAM and STS API References (making query requests, errors).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from backup.emulator.core.errors import ServiceError
from backup.emulator.core.wire import Answer, new_request_id

Node = tuple[str, "str | int | bool | Iterable[Node] | None"]

NAMESPACES = {
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
}
_CODES = {
    "AccessDeniedException": ("AccessDenied", 403),
    "ExpiredTokenException": ("ExpiredToken", 403),
    "InvalidSignatureException": ("SignatureDoesNotMatch", 403),
    "MissingAuthenticationTokenException": ("MissingAuthenticationToken", 403),
    "UnrecognizedClientException": ("InvalidClientTokenId", 403),
    "ThrottlingException": ("Throttling", 400),
    "ServiceUnavailableException": ("ServiceUnavailable", 503),
}
"""The codes of the JSON services, as the query services name them."""


def parameters(body: bytes, query: str) -> dict[str, str]:
    """The parameters of a request, of its form and of its query."""
    try:
        text = body.decode()
        return dict(parse_qsl(query, keep_blank_values=True)) | dict(parse_qsl(text, keep_blank_values=True))
    except (UnicodeDecodeError, ValueError) as error:
        raise query_error("MalformedInput", "The form cannot be read.") from error


def members(given: Mapping[str, str], name: str) -> list[dict[str, str]]:
    """The structures of a list, such as `Tags.member.1.Key`, in their order."""
    found: dict[int, dict[str, str]] = {}
    for key, value in given.items():
        parts = re.fullmatch(rf"{name}\.member\.(\d{{1,4}})(?:\.(\w+))?", key)
        if parts:
            found.setdefault(int(parts[1]), {})[parts[2] or ""] = value
    return [found[number] for number in sorted(found)]


def query_error(code: str, message: str, status: int = 400) -> ServiceError:
    """An error by the code of a query service."""
    return ServiceError(code, message, status=status)


def answer(service: str, operation: str, nodes: Iterable[Node] | None) -> Answer:
    """The answer of an operation; without nodes it has no result."""
    result = "" if nodes is None else _element(f"{operation}Result", nodes)
    metadata = _element("ResponseMetadata", [("RequestId", new_request_id())])
    name = f"{operation}Response"
    body = f'<{name} xmlns="{NAMESPACES[service]}">{result}{metadata}</{name}>'
    return Answer(200, {"Content-Type": "text/xml"}, body.encode())


def error_answer(error: ServiceError, service: str) -> Answer:
    """An error, its code as the query services name it."""
    code, status = _CODES.get(error.code, (error.code, error.status))
    status = error.status if error.status >= 500 else status
    kind = "Receiver" if status >= 500 else "Sender"
    told = _element("Error", [("Type", kind), ("Code", code), ("Message", error.message)])
    told += _element("RequestId", new_request_id())
    body = f'<ErrorResponse xmlns="{NAMESPACES[service]}">{told}</ErrorResponse>'
    return Answer(status, {"Content-Type": "text/xml"}, body.encode())


def _element(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f"<{name}>{'true' if value else 'false'}</{name}>"
    if isinstance(value, str | int):
        return f"<{name}>{escape(str(value))}</{name}>"
    assert isinstance(value, Iterable)  # noqa: S101
    return f"<{name}>{''.join(_element(*node) for node in value)}</{name}>"
