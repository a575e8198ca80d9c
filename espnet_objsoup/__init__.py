# SPDX-License-Identifier: Apache-2.0
"""Objective soups for ESPnet: one model for recognition and translation in many languages."""

__version__ = "0.1.0"
