# SPDX-License-Identifier: Apache-2.0
"""Soups against each other: arms, variants and seeds, their runs, results and tables.

Neither torch nor espnet2 is imported; trainings are the recipe's own stages, as processes.
"""
