# SPDX-License-Identifier: Apache-2.0
"""How fast a config runs here: whole steps, where their time goes, other frameworks beside, and how cost grows."""
