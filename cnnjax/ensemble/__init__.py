# SPDX-License-Identifier: Apache-2.0
"""Many networks in one compiled step: each is a run of its own, and together they are an ensemble."""
