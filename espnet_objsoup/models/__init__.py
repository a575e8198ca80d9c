# SPDX-License-Identifier: Apache-2.0
"""The ESPnet model that a soup is trained on: one shared encoder, one head per task."""
