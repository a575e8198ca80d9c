# SPDX-License-Identifier: Apache-2.0
"""Stage 12: hypotheses of a data directory, in one process or several.

`options`, `output` and `jobs` import neither torch nor espnet2, so that a wrong option is reported
at once; `worker` does the decoding.
"""
