# SPDX-License-Identifier: Apache-2.0
"""Scores of hypotheses against references. Imports neither torch nor espnet2."""
