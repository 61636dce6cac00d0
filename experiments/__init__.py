# SPDX-License-Identifier: Apache-2.0
"""The shipped experiments, a file each; `default.py` is their schema."""
