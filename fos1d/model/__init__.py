"""Kernel objects and the values around them: identity, claims, facts, conditions, diagnostics.

Belongs here: frozen values and pure functions over them, shared by every other package.
Must not be here: I/O, YAML and pydantic (manifest/, kinds/), how a thing is done (kernel/).
"""
