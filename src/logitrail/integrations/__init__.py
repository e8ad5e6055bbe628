"""STR in training programs that are not TRL's: a mixin for any transformers Trainer, and a plugin for Axolotl."""
