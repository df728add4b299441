"""Binary messages (BODY=BINARYMIME, RFC 3030 §3) for agents that know lines of text only: mailboxes, programs.

What is binary in them becomes base64 before the agent sees it. Large content is written anew, and is gone after the
delivery; a crash in between leaves a file that no message names, which the next start removes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from msgspec.structs import replace

from ekiden.deliver.smtp_conversion import rewritten
from ekiden.message.content import InlineContent
from ekiden.message.delivery import DeliveryRequest, DeliveryResult, deferred, failed
from ekiden.message.envelope import BodyType
from ekiden.message.mime_downgrade import Rewriter, Surveyor
from ekiden.message.mime_parser import Limits
from ekiden.message.status import Status
from ekiden.queue.content import chunks
from ekiden.queue.store import ContentWriter, StoreTrouble

Deliver = Callable[[DeliveryRequest], Awaitable[Sequence[DeliveryResult]]]


async def deliver_as_text(
    request: DeliveryRequest,
    deliver: Deliver,
    *,
    content_writer: Callable[[str], ContentWriter],
    new_id: Callable[[], str],
    limits: Limits,
) -> Sequence[DeliveryResult]:
    surveyor = Surveyor(limits, binary_only=True)
    writer: ContentWriter | None = None
    try:
        async for chunk in chunks(request.content):
            surveyor.feed(chunk)
        survey = surveyor.survey()
        if survey.problem:
            text = f"the message is binary, and cannot be converted: {survey.problem}"
            return [failed(Status(5, 6, 3), text)] * len(request.recipients)
        if isinstance(request.content, InlineContent):
            rewriter = Rewriter(limits, survey)
            content = InlineContent(rewriter.feed(request.content.data) + rewriter.end())
            return await deliver(_with(request, content))
        writer = content_writer(new_id())
        async for piece in rewritten(request.content, limits, survey):
            if writer.write(piece):
                await writer.drain()
        return await deliver(_with(request, await writer.finish()))
    except StoreTrouble as trouble:
        return [deferred(Status(4, 3, 0), f"cannot convert the content: {trouble}")] * len(request.recipients)
    finally:
        if writer is not None:
            await writer.discard()


def _with(request: DeliveryRequest, content: object) -> DeliveryRequest:
    envelope = replace(request.envelope, body=BodyType.EIGHT_BIT_MIME)
    return replace(request, envelope=envelope, content=content)
