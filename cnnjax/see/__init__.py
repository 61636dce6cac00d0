# SPDX-License-Identifier: Apache-2.0
"""What a network sees, as pure functions: arrays in, arrays out, of any model with named intermediates."""
