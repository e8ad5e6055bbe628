"""A plugin for Axolotl: `plugins: [logitrail.integrations.axolotl.STRPlugin]` in its configuration, and `str_*` beside it.

Written against the plugin interface of Axolotl 0.19 (`axolotl.integrations.base.BasePlugin`). A whole training in Axolotl
was never run here; docs/how-to/axolotl.md says what was tested.
"""

from __future__ import annotations

from typing import Any

from axolotl.integrations.base import BasePlugin
from pydantic import BaseModel

from logitrail.integrations.trainer import STRSettings, held
from logitrail.types import Anchor, Penalty


class STRArgs(BaseModel):
    """What the plugin adds to Axolotl's configuration; None where it says nothing, then `STRSettings` has the default."""

    str_weight: float | None = None
    str_anchor: Anchor | None = None
    str_penalty: Penalty | None = None
    str_tokens: str | None = None


class STRPlugin(BasePlugin):  # type: ignore[misc]
    """Holds the safety tokens' logits near the starting model's while Axolotl trains."""

    def get_input_args(self) -> str:
        return f"{__name__}.{STRArgs.__name__}"

    def get_trainer_cls(self, cfg: Any) -> type | None:
        settings = settings_of(cfg)
        if settings.str_weight == 0:
            return None
        from axolotl.core.trainers.base import AxolotlTrainer

        return held(AxolotlTrainer, settings)


def settings_of(cfg: Any) -> STRSettings:
    """The settings in an Axolotl configuration, which gives None for a key that it does not hold."""
    given = {name: cfg.get(name) for name in STRSettings.model_fields}
    return STRSettings(**{name: value for name, value in given.items() if value is not None})
