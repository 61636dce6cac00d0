# SPDX-License-Identifier: Apache-2.0
"""`run.py evaluate` and `run.py ablate` as libraries: trained networks out of their folders, measured and compared."""
