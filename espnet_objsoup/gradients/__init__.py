# SPDX-License-Identifier: Apache-2.0
"""Gradients of objectives: measured layers, their Gramian, and which layers are in conflict."""
