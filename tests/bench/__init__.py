"""What fos1d costs, measured beside what its peers cost: `python -m tests.bench`.

Belongs here: labs of namespaces, yardsticks, and the figures of docs/design/performance.md. Must
not be here: anything that fos1d itself runs. Figures are ratios within one run: whatever else the
machine does meanwhile is done to all sides alike.
"""
