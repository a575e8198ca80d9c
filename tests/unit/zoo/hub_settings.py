# SPDX-License-Identifier: Apache-2.0
"""Names that the tests of upload and download share."""

TOKEN = "hf_" + "Q7secret" * 4
CLOSED = "http://127.0.0.1:9"  # nobody listens at the discard port
