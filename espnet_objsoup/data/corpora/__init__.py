# SPDX-License-Identifier: Apache-2.0
"""One module per corpus: from its distribution's exact layout to data directories."""
