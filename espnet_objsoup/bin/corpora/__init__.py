# SPDX-License-Identifier: Apache-2.0
"""Subcommands of `prepare_corpus`, a module per corpus.

Each module has `HELP` (a line), `add_arguments(parser)` and `run(args)`, which returns what was made,
in words.
"""
