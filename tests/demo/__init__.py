"""`make demo`: the main job, on real packets, in about a minute."""
