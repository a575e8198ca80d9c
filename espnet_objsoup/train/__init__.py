# SPDX-License-Identifier: Apache-2.0
"""Trainers, their options and their state."""
