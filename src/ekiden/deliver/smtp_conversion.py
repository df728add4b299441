"""Content for a server that cannot take it as it is: without 8BITMIME (RFC 6152 §3) or BINARYMIME (RFC 3030 §3).

What lies in memory is converted there; what lies in a file as it goes out, in pieces, and nothing of it is kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from ekiden.deliver.smtp_job import Converted, Job
from ekiden.message.content import InlineContent, OutgoingContent
from ekiden.message.mime_downgrade import Rewriter, Survey, Surveyor
from ekiden.message.mime_parser import Limits
from ekiden.queue.content import chunks

_PIECE_BYTES = 65_536  # so much is encoded before others have their turn


async def is_ascii(job: Job) -> bool:
    """Whether no byte of the content is beyond 7 bits. Raises StoreTrouble."""
    if job.is_ascii is None:
        job.is_ascii = True
        async for chunk in chunks(job.content):
            if not chunk.isascii():
                job.is_ascii = False
                break
    return job.is_ascii


async def converted(job: Job, limits: Limits, *, binary_only: bool) -> Converted | str:
    """The content for a server without BINARYMIME (``binary_only``), or without 8BITMIME too; or why there is none.

    Raises StoreTrouble.
    """
    known = job.converted.get(binary_only)
    if known is None:
        surveyor = Surveyor(limits, binary_only=binary_only)
        async for chunk in chunks(job.content, _PIECE_BYTES):
            surveyor.feed(chunk)
        survey = surveyor.survey()
        if survey.problem:
            return survey.problem
        if not survey.changes:
            known = Converted(job.content, job.content.size)
        else:
            job.notes.extend(survey.remarks)
            rewriter = Rewriter(limits, survey)
            if isinstance(job.content, InlineContent):
                content = InlineContent(rewriter.feed(job.content.data) + rewriter.end())
                known = Converted(content, content.size)
            else:
                size = 0
                async for piece in rewritten(job.content, limits, survey):
                    size += len(piece)
                known = Converted(job.content, size, survey)
        job.converted[binary_only] = known
    return known


async def rewritten(content: OutgoingContent, limits: Limits, survey: Survey) -> AsyncIterator[bytes]:
    """The new content, in pieces. Raises StoreTrouble."""
    rewriter = Rewriter(limits, survey)
    async for chunk in chunks(content, _PIECE_BYTES):
        if piece := rewriter.feed(chunk):
            yield piece
    if piece := rewriter.end():
        yield piece
