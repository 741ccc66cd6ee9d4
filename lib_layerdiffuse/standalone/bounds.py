"""The least and the most of a job's numbers that commands and job files take. Needs no library."""

SETS = (1, 64)
STEPS = (1, 150)
CFG = (1, 30)
DENOISE = (0, 1)
