# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with a model that is packed, unpacked, found or published."""


class ModelError(ValueError):
    """A model that cannot be used; the message says what was expected, found, and what to do."""
