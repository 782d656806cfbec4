"""Lists and rules into the tables that the programs read.

Belongs here: pure transformations of bulk values (numpy arrays in, arrays out); their inverses are
tested against naive walks. Must not be here: files, the kernel, what a manifest looks like.
"""
