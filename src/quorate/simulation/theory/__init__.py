"""The theory that the product stands on, made visible: FLP, CAP, elections, valence.

What is here shows and measures; nothing of the product uses it. Engines are the real ones, got by
name from the registry; where a toy protocol stands for an argument, it says so. ``docs/theory.md``
tells the story, ``tests/theory`` asserts it.
"""
