# SPDX-License-Identifier: Apache-2.0
"""Data directories, audio, text and corpora. Imports neither torch nor espnet2."""
