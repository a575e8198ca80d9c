# SPDX-License-Identifier: Apache-2.0
"""Subcommands of `prepare_corpus`, a module per corpus.

Each has `HELP` (a line), `add_arguments(parser)` and `run(args)`, which returns in words what was
made.
"""
