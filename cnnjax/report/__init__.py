# SPDX-License-Identifier: Apache-2.0
"""What a run writes about itself: its log, its environment, tables and figures."""
