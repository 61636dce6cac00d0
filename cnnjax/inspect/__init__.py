# SPDX-License-Identifier: Apache-2.0
"""What can be read off a network, trained or not."""
