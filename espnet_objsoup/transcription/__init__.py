# SPDX-License-Identifier: Apache-2.0
"""Transcribing and translating audio files from the command line.

Imports neither torch nor espnet2 before a model is loaded.
"""
