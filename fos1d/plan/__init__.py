"""Desired minus observed is the plan: ordered actions, as data that can be printed and compared.

Belongs here: the diff, the order, the actions and what a failure means for the rest. Pure.
Must not be here: kinds (what users write) and how the kernel is told (kernel/).
"""
