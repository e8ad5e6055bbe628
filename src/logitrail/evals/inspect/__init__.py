"""The suites on inspect_ai: its tasks, scorers and logs for any model that it can reach (`pip install logitrail[eval]`).

inspect finds `registry` through the entry point `inspect_ai`, so that `inspect eval logitrail/refusal` works.
"""
