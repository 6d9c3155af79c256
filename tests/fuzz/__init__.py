"""Mutated code streams and files: nothing crashes or hangs, nothing is taken wrongly.

``python -m tests.fuzz streams --count 20000 --seed 1`` runs many;
``tests/fuzz/test_fuzz.py`` runs some with all other tests.
"""
