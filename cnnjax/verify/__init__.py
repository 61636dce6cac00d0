# SPDX-License-Identifier: Apache-2.0
"""Proofs, on the user's own machine, that a config's runs are the same however they come about."""
