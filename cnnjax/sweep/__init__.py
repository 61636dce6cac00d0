# SPDX-License-Identifier: Apache-2.0
"""A grid over keys of a config: its points, their training, and the tables and the picture of what came of it."""
