# SPDX-License-Identifier: Apache-2.0
"""What a training left, as one page; imports neither torch nor espnet2."""
