# SPDX-License-Identifier: Apache-2.0
"""All architectures on one picture: accuracy against multiply-adds or time, published networks and one's own runs."""
