"""A stream of XML -> blocks of whole pages, cut without being parsed, so that workers parse them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from ckl_bench.errors import UserError

from . import dumps
from .dumps import READ, Page, pages

_END = b"</page>"  # in the text of a page it would be written &lt;/page&gt;
_HEAD = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<mediawiki[\s>]")
_TAIL = re.compile(rb"\s*</mediawiki>\s*")


@dataclass(frozen=True)
class PageBlock:
    """Whole pages as they stand in a dump, the first with what stands before them; how many pages come before."""

    name: str
    before: int
    text: bytes

    def pages(self) -> list[Page]:
        """The pages; raises as `dumps.pages` does."""
        return list(pages(io.BytesIO(self.text), self.name, self.before))


def page_blocks(stream: IO[bytes], name: str) -> Iterator[PageBlock]:
    """The pages of a MediaWiki XML export in blocks of a megabyte or two, each an export of its own.

    Raises UserError for a dump that is cut short or cannot be unpacked, and for a page larger than any.
    """
    held, count, head = bytearray(), 0, True
    try:
        while chunk := stream.read(READ):
            searched = max(len(held) - len(_END), 0)
            held += chunk
            at = held.rfind(_END, searched)
            if at >= 0:
                if head and not _HEAD.match(held):
                    raise ValueError("it does not begin with <mediawiki>")
                whole = bytes(held[: at + len(_END)])
                del held[: at + len(_END)]
                yield PageBlock(name, count, (b"" if head else b"<mediawiki>") + whole + b"</mediawiki>")
                count, head = count + whole.count(_END), False
            elif len(held) > dumps.PAGE:
                raise ValueError(f"{dumps.PAGE >> 20} MiB without a page's end")
        if not head and not _TAIL.fullmatch(held):
            raise EOFError("it has no end")
    except (EOFError, OSError, ValueError) as error:
        raise UserError(f"{name} is cut short or damaged after {count} pages ({error}); fetch it again") from error
    if head:
        yield PageBlock(name, 0, bytes(held))  # no page: what else it is, its parser says
