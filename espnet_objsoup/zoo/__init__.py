# SPDX-License-Identifier: Apache-2.0
"""Trained models on their way to others: packing, unpacking, model cards, upload."""
