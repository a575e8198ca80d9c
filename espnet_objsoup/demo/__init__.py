# SPDX-License-Identifier: Apache-2.0
"""A local page in the browser where a model can be tried: `objsoup demo`."""
