"""Plain supervised fine-tuning: the baseline.

It runs through `STRTrainer` with lambda 0, which gives the very weights of TRL's `SFTTrainer` (a test holds this to the
bit), and where the run keeps a reference cache it logs the distance beside its cross-entropy for the comparison.
"""

from __future__ import annotations

from logitrail.methods.method import Part

PART = Part("sft", "plain supervised fine-tuning (TRL's SFTTrainer)", "TRL", watches_cache=True)
