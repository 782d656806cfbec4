"""What policies mean, written down as plainly as possible: no tables, no caches, no numpy.

Data path and compiler are compared with it; so it must import neither.
"""
