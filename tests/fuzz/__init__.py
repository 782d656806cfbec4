"""Fuzzing: targets that are checked against naive oracles.

`make fuzz` runs them under atheris (libFuzzer), from tests/fuzz/seeds; test_seeds.py runs them on
the seeds and on random changes of these. What a run found is added to the seeds.
"""
