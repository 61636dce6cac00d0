# SPDX-License-Identifier: Apache-2.0
"""Arithmetic on what an autoencoder makes of pictures: attribute vectors, how far they work, and pages to play with."""
