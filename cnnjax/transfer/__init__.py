# SPDX-License-Identifier: Apache-2.0
"""From a trained network to other data: where a run starts, fixed features, and how the ways to transfer compare."""
