"""An S3 client whose requests never leave: each is kept, and answered from a script."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Mapping
from typing import Any

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from msgspec import Struct, field

from backup.vault.s3.vault import S3Vault
from tests.support.rigs import s3_client, s3_vault

URL = "https://s3.example"


class Answer(Struct, frozen=True):
    """What the service says."""

    status: int = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal(code: str, status: int = 400, message: str = "no") -> Answer:
    """An error as S3 writes it."""
    return Answer(status, f"<Error><Code>{code}</Code><Message>{message}</Message></Error>")


class _Raw(io.BytesIO):
    """A body as urllib3 gives it."""

    def stream(self, *_: Any, **__: Any) -> Any:
        yield self.read()


class ScriptedS3:
    """Answers by operation: in turn, the last again and again. `sent` has every request."""

    def __init__(self, **answers: Answer | list[Answer]) -> None:
        self._answers: dict[str, deque[Answer]] = {}
        self.answer(**answers)
        self.sent: list[tuple[str, AWSPreparedRequest]] = []
        self.client = s3_client(URL)
        self.client.meta.events.register("before-send.s3", self._answer)

    def answer(self, **answers: Answer | list[Answer]) -> None:
        """Set or replace the answers to some operations."""
        for operation, told in answers.items():
            self._answers[operation] = deque(told if isinstance(told, list) else [told])

    def vault(self, **settings: Any) -> S3Vault:
        """A vault in the bucket `some-bucket` of it."""
        return s3_vault(self.client, "some-bucket", **settings)

    def operations(self) -> list[str]:
        """What was asked for, in order."""
        return [operation for operation, _ in self.sent]

    def _answer(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse:
        operation = event_name.rpartition(".")[2]
        self.sent.append((operation, request))
        script = self._answers.get(operation)
        assert script, f"nobody expected {operation}"
        answer = script.popleft() if len(script) > 1 else script[0]
        raw = _Raw(answer.body.encode())
        return AWSResponse(request.url, answer.status, dict(answer.headers), raw)
