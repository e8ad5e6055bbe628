"""Caches made of known numbers."""

from __future__ import annotations

import torch

from logitrail.reference import CacheIdentity, ReferenceColumns, build_cache

IDENTITY = CacheIdentity("weights", "tokenizer", "template", "tokens", "rows", "labels", True, "float32")


def rows(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        ReferenceColumns(torch.randn(n, 3, generator=generator), torch.randn(n, generator=generator)) for n in lengths
    ]


def joined(row):
    return torch.cat([row.columns, row.logsumexp.unsqueeze(-1)], dim=-1)


def columns_from(content, asked=None):
    def columns_of(batch):
        if asked is not None:
            asked.extend(batch)
        return ReferenceColumns(
            torch.cat([content[row].columns for row in batch]), torch.cat([content[row].logsumexp for row in batch])
        )

    return columns_of


def build(folder, content, identity=IDENTITY, **more):
    """Builds, and gives the rows that were computed."""
    asked: list[int] = []
    settings = {"columns_of": columns_from(content, asked), "batch_size": 3, "columns": 3, **more}
    build_cache(folder, identity, counts=[len(row.columns) for row in content], **settings)
    return asked


def contents(folder):
    """Every file but the lock, which says who built."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name != ".building.lock"}
