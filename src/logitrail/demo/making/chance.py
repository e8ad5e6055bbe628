"""Named random streams: each part of the making draws from its own, so that one cannot shift another."""

from __future__ import annotations

import random


class Stream(random.Random):
    """A generator seeded by a name; equal names give equal draws. It makes corpora, not secrets."""

    def __init__(self, *name: object) -> None:
        super().__init__(" ".join(map(str, name)))
