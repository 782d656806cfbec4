"""fos1d: declared networking for edge routers, kept true in the kernel.

YAML in Git becomes typed resources; each resource lowers to plain kernel objects; desired objects
minus observed objects is the plan; one executor carries it out; then it looks again, and the plan
must be empty. docs/design/overview.md draws the whole way.
"""

__version__ = "0.1.0"
